"""The classroom kit: build assignments from the exercises, grade submissions without trusting them.

`python -m diffusion_course.classroom build ...` and `... grade ...`; docs/instructors.md says how.
Who starts whom while a submission is graded, what goes between them, and what each can see:

    grader                          your files, the assignment with its seed, the hidden cases,
    |  grading/, sandbox/handle     the references; it compares, and believes nothing it reads
    |  two threads for each worker: one reads its frames, one watches time, memory, processes
    |
    |  two pipes                    frames for the messenger (CONTROL) and for the run (RUN)
    |  pipes, read once at start    bwrap's arguments and the filter of system calls
    v
    bwrap                           makes the sandbox; all in it end with it, and it with the grader
    v
    worker, the first process       Python, the libraries, the package without lessons, grader and
    |  sandbox/worker               hidden cases; it reads nothing of a submission and runs no
    |                               student's code; after each run it kills what is left, empties
    |                               the folders, and ends itself where anything is odd
    v
    messenger, one for each run     passes messages between the two pipes and the run's socket; no
    |  sandbox/worker               other process of the sandbox can read it or trace it
    |
    |  one socket for each run      what the frames for the run hold
    v
    run, one for each execution     the same files and one new folder; the student's cells; no pipe
    |  sandbox/execution            to the grader; ends, with all that it started, before the next
    |
    |  the socket of its run        a case in, an outcome out: numbers, texts and tensors
    v
    call, one for each answer       the state that the cells left; the arguments of one case at a
                                    time, never a right value or the next case

A sandbox serves one submission after another (sandbox/reuse). Without bubblewrap (`--unsafe`) the
worker is a process like any other, and sees what you see; on Gradescope it is another user's. Where
Python cannot fork safely there is one worker for each run, and run and calls are that process.
"""
