"""What a submission can reach in the sandbox, what ends it, and that no run reaches the next one."""

import os
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.grading import attempts
from diffusion_course.classroom.grading.attempts import run_attempts
from diffusion_course.classroom.grading.marking import mark
from diffusion_course.classroom.grading.selection import Task
from diffusion_course.classroom.reasons import Reason
from diffusion_course.classroom.records import Attempt, Cell, Submission
from diffusion_course.classroom.sandbox import bubblewrap as sandbox
from diffusion_course.classroom.sandbox import clock, cores, execution, handle, watch
from diffusion_course.classroom.sandbox.bubblewrap import (
    SandboxMissing,
    bubblewrap_arguments,
    course_copy,
    environment,
    sandbox_available,
)
from diffusion_course.classroom.sandbox.clock import Clock
from diffusion_course.classroom.sandbox.confinement import (
    ALLOW,
    ARCHITECTURES,
    ONLY_WITH,
    REFUSE,
    REFUSED,
    refusing_filter,
)
from diffusion_course.classroom.sandbox.conversation import (
    CellEndedRun,
    have_answer_called,
    have_cells_executed,
)
from diffusion_course.classroom.sandbox.handle import RunEnded, WorkerHandle
from diffusion_course.classroom.sandbox.limits import WALL, Limits
from diffusion_course.classroom.sandbox.processes import descendants, is_alive, used_by
from diffusion_course.classroom.sandbox.reuse import Kind, Workers
from diffusion_course.exercises.engine import judge, make_cases
from diffusion_course.exercises.registry import all_exercises, get_exercise
from diffusion_course.exercises.trial import Failure, Outcome

needs_sandbox = pytest.mark.skipif(not sandbox_available(), reason="bubblewrap is not usable here")
LIMITS = Limits(seconds=120, seconds_per_cell=60, seconds_per_call=30, memory_mib=1200, disk_mib=16)  # time for busy machines
SLOPE = get_exercise("02.3")
HONEST = {"02.1": "def jump(x0, t, alphas_cumprod, noise):\n    a = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.dim() - 1))\n    return a.sqrt() * x0 + (1 - a).sqrt() * noise\n",
          "02.2": "def cumulative_alphas(betas):\n    return torch.cumprod(1 - betas, dim=0)\n",
          "02.3": "def signal_to_noise(alphas_cumprod):\n    return alphas_cumprod / (1 - alphas_cumprod)\n"}


@pytest.fixture(scope="module")
def course():
    with course_copy() as folder:
        yield folder


@pytest.fixture(scope="module")
def worker(course, tmp_path_factory):
    one = WorkerHandle(course, tmp_path_factory.mktemp("unused"), LIMITS)
    yield one
    one.close()


def soon(worker, seconds=60):
    """A deadline: a time of the clock of the submission that the worker serves."""
    return worker.clock.now() + seconds


def inside(worker, code):
    """What `result` is after `code` has run in the sandbox."""
    assert worker.clean()
    source = f"def signal_to_noise(alphas_cumprod):\n    return result\n{code}"
    failures = have_cells_executed(worker, [(0, Cell(source))], [SLOPE], soon(worker))
    state, (outcome, *_), _ = have_answer_called(worker, 0, make_cases(SLOPE)[:1], soon(worker))
    assert (failures, state, outcome.failure) == ({}, "found", None)
    return outcome.output


def submission(*cells):
    return Submission("someone", Path("someone.ipynb"), "0", tuple(Cell(source, name) for name, source in cells))


def attempted(cells, exercises=tuple(HONEST), limits=LIMITS, **options):
    """Status of each exercise, or the reason why it has no outcomes; and the notes."""
    wanted = [(one, make_cases(one, 1234)) for one in map(get_exercise, exercises)]
    attempts, notes = run_attempts(submission(*cells), wanted, limits, **options)
    return [attempts[one.id].reason or judge(one, cases, attempts[one.id].outcomes).status for one, cases in wanted], notes


def answers(**changed):
    cells = HONEST | {name.replace("e", "0", 1).replace("_", "."): source for name, source in changed.items()}
    return [(None, "import torch\nimport math"), *((f"answer-{name.replace('.', '-')}", source) for name, source in cells.items())]


# What can be reached.


@needs_sandbox
def test_the_environment_is_the_sandboxes_own(worker, monkeypatch):
    assert "CANARY" not in str(environment("/course", "/tmp"))
    found = inside(worker, "import os, socket\nresult = (dict(os.environ), os.getuid(), os.getgid(), socket.gethostname())")
    variables, uid, gid, host = found
    folder = variables["HOME"]
    assert folder.startswith("/tmp/run-") and {variables[name] for name in ("TMPDIR", "MPLCONFIGDIR")} == {folder}
    assert set(variables) - set(environment("", "")) <= {"PWD", "LC_CTYPE", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK"}
    assert (uid, gid, host) == (65534, 65534, "sandbox")


@needs_sandbox
def test_only_the_temporary_folders_can_be_written(worker):
    code = """import os
result = []
for top, folders, files in os.walk("/"):
    folders[:] = [one for one in folders if os.path.join(top, one) != "/proc" and not os.path.islink(os.path.join(top, one))]
    if len(top.split("/")) > 5 or top.startswith("/usr/"):
        folders.clear()
    try:
        with open(os.path.join(top, "written"), "w") as file:
            file.write("x")
        result.append(top)
    except OSError:
        pass
"""
    found = inside(worker, code)
    assert all(one == "/dev/shm" or one == "/tmp" or one.startswith("/tmp/run-") for one in found) and found
    assert not list(Path("/tmp").glob("written"))


@needs_sandbox
def test_there_is_no_network(worker):
    code = """import socket
try:
    socket.create_connection(("127.0.0.1", PORT), timeout=2)
    result = "connected"
except OSError as error:
    result = type(error).__name__
"""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert inside(worker, code.replace("PORT", str(server.getsockname()[1]))) in ("ConnectionRefusedError", "PermissionError")
    assert inside(worker, "result = [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]") == ("lo",)


@needs_sandbox
@pytest.mark.skipif(refusing_filter() is None, reason="there is no filter for this processor")
def test_connections_leave_nothing_behind(worker):
    """What ends a connection is kept for a minute, so there are none, on the sandbox's own network either."""
    code = """import socket
for _ in range(20):
    try:
        server = socket.create_server(("127.0.0.1", 0))
        left, right = socket.create_connection(server.getsockname()), server.accept()[0]
        left.close(), right.close(), server.close()
    except OSError:
        pass
left, right = socket.socketpair()
left.sendall(b"x")
result = right.recv(1).decode() + str(len(open("/proc/net/tcp").readlines()))
"""
    assert inside(worker, code) == "x1"


@needs_sandbox
def test_lessons_hidden_parts_and_the_project_are_not_there(worker, course):
    code = """import importlib, os, pathlib
result = []
for name in ("exercises.lessons.lesson01", "exercises.lessons.lesson12", "classroom.grading.marking", "classroom.assignment.assignment", "classroom.grading.attempts"):
    try:
        importlib.import_module("diffusion_course." + name)
        result.append(name)
    except ImportError:
        pass
import diffusion_course.exercises.registry as registry
try:
    result += [one.id for one in registry.all_exercises()]
except ImportError:
    pass
result += [str(path) for path in pathlib.Path("/course").rglob("lesson*")]
result += [path for path in PLACES if os.path.exists(path)]
"""
    root = Path(__file__).resolve().parents[1]
    places = [str(root / "tests"), str(root / "notebooks"), str(root / "diffusion_course"), str(course), str(Path.home() / ".ssh"), "/home", "/etc/passwd", "/var"]
    places = [place for place in places if not Path(sys.prefix).is_relative_to(place)]  # the environment is shown, so what holds it is there
    assert inside(worker, code.replace("PLACES", repr(places))) == ()


def test_the_worker_has_its_own_side_of_the_classroom_and_no_more(course):
    folder = course / "diffusion_course" / "classroom"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    worker = ("call_spec", "decoding", "execution", "outcomes", "pipes", "protocol", "record", "restrictions", "worker")
    assert there == {"__init__.py", "sandbox/__init__.py", *(f"sandbox/{name}.py" for name in worker)}
    assert not list(course.rglob("lesson*"))


@needs_sandbox
def test_only_its_own_processes_are_seen(worker):
    assert len(inside(worker, "import os\nresult = [one for one in os.listdir('/proc') if one.isdigit()]")) <= 4


@needs_sandbox
def test_the_first_process_cannot_be_reached(worker):
    code = """import ctypes, os, resource
result = []
libc = ctypes.CDLL(None, use_errno=True)
for name in ("mem", "environ", "maps", *(f"fd/{number}" for number in range(64))):
    for mode in ("rb", "wb"):
        try:
            open(f"/proc/2/{name}", mode, buffering=0).close()
            result.append(name)
        except OSError:
            pass
if libc.ptrace(16, 2, 0, 0) == 0:
    result.append("ptrace")
try:
    resource.prlimit(2, resource.RLIMIT_DATA, (1, 1))
    result.append("prlimit")
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    os.memfd_create("x")
    result.append("memfd_create")
except OSError:
    pass
if libc.shmget(0, 4096, 0o1600) >= 0:
    result.append("shmget")
if libc.unshare(0x10000000) == 0:
    result.append("unshare")
"""
    assert inside(worker, code) == ()


@needs_sandbox
def test_a_run_has_no_pipe_to_the_grader(worker):
    code = """import os, stat
result = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
"""
    kinds = [one.partition(":")[0] for one in inside(worker, code)]
    assert kinds.count("socket") == 1 and "pipe" not in kinds


@needs_sandbox
def test_no_process_of_the_sandbox_shows_a_pipe_to_the_grader(worker):
    """The first process is bubblewrap's and can be looked into: what the grader speaks through was its stdin and stdout."""
    code = """import os, struct
result = []
for process in filter(str.isdigit, os.listdir("/proc")):
    for number in range(64):
        path = f"/proc/{process}/fd/{number}"
        try:
            kind = os.readlink(path)
        except OSError:
            continue
        if kind.startswith("pipe:"):
            os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), struct.pack("<BI", 1, 3) + b"abc")
            result.append(f"{path} {kind}")
"""
    assert inside(worker, code) == ()


def run_filter(program, machine, call, *arguments):
    """A seccomp filter's verdict on a call, by a small machine of our own."""
    words = struct.pack("=IIQ6Q", call, ARCHITECTURES[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("=HBBI", program))
    place = held = 0
    while True:
        code, if_true, if_false, value = steps[place]
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            (held,) = struct.unpack_from("=I", words, value)
        else:
            assert code in (0x15, 0x35)
            place += if_true if (held == value if code == 0x15 else held >= value) else if_false


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 1), ("aarch64", 2)])
def test_the_filter_refuses_what_it_names_and_nothing_else(machine, column):
    program = refusing_filter(machine)
    refused = {row[column] for row in REFUSED}
    allowed = {row[column]: row[-1] for row in ONLY_WITH}
    for call in range(480):
        assert run_filter(program, machine, call, *allowed.get(call, ())) == (REFUSE if call in refused else ALLOW)
    for call, arguments in allowed.items():
        for place, value in enumerate(arguments):
            others = [*arguments[:place], value + 2, *arguments[place + 1 :]]
            assert run_filter(program, machine, call, *others) == REFUSE
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine]
    assert run_filter(program, other, 63) == REFUSE and run_filter(program, machine, 0x40000000 + 1) == REFUSE
    assert refusing_filter("riscv64") is None


def test_an_installed_course_is_hidden(tmp_path, monkeypatch):
    package = tmp_path / "prefix" / "lib" / "site-packages" / "diffusion_course"
    (package / "exercises").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.syspath_prepend(str(package.parent))
    arguments = bubblewrap_arguments(tmp_path, 1)
    place = arguments.index(str(package))
    assert arguments[place - 1] == "--tmpfs" and arguments[place + 1 : place + 3] == ["--remount-ro", str(package)]
    assert arguments.index(str(tmp_path / "prefix")) < place


# What ends a run, and that it ends nothing else.


@needs_sandbox
@pytest.mark.parametrize(("code", "reason"), [
    ("while True: pass", "time"), ("import os\nwhile True: os.write(1, b'x' * 2**20)", "time"), ("import os\nos._exit(0)", "crash"),
    ("import ctypes\nctypes.string_at(0)", "crash"), ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "time"),
    ("import os\nos.close(0)\nos.closerange(3, 200)\nos._exit(0)", "crash"),
])
def test_a_run_that_ends_leaves_the_worker(worker, code, reason):
    assert worker.clean()
    with pytest.raises(CellEndedRun) as caught:
        have_cells_executed(worker, [(7, Cell(code))], [], soon(worker, 2 if reason == "time" else 20))
    assert (caught.value.index, caught.value.reason) == (7, reason)
    assert inside(worker, "result = 1") == 1


@needs_sandbox
def test_nothing_of_a_run_is_left_for_the_next(worker):
    code = """import os, pathlib
for place in (os.getcwd(), "/tmp", "/dev/shm"):
    pathlib.Path(place, "left").write_text("x")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        while True: time.sleep(1)
    os._exit(0)
result = os.getcwd()
"""
    where = inside(worker, code)
    after = "import os, glob\nresult = (glob.glob('/tmp/*'), glob.glob('/dev/shm/*'), sorted(filter(str.isdigit, os.listdir('/proc'))), os.getcwd())"
    temporary, shared, processes, here = inside(worker, after)
    assert temporary == (here,) and here != where and shared == () and len(processes) == 4


# Each leaves something where the next submission would find it. A worker that cannot take it away is not used again.
LEFTOVERS = {
    "a folder that nobody may open": "os.makedirs('/tmp/a/b')\nos.chmod('/tmp/a/b', 0)\nopen('/tmp/a/c', 'w').close()\nos.chmod('/tmp/a', 0)",
    "a folder that is closed": "os.chmod('/tmp', 0)\nos.chmod('/dev/shm', 0o777)",
    "very deep folders": "for _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')",
    "the messenger's end": "os.kill(os.getppid(), 15)",
    "the first process's end": "os.kill(2, 2)",
    "daemons that fork": "for _ in range(20):\n    if os.fork() == 0:\n        os.setsid()\n        while True:\n            if os.fork():\n                os._exit(0)",
}


@pytest.fixture(scope="module")
def workers():
    with Workers() as made:
        yield made


@needs_sandbox
@pytest.mark.in_parts
@pytest.mark.parametrize("code", LEFTOVERS.values(), ids=LEFTOVERS)
def test_a_worker_is_clean_or_not_used_again(workers, course, tmp_path, code):
    look = "import os, stat\nresult = (os.listdir('/tmp'), os.listdir('/dev/shm'), stat.S_IMODE(os.stat('/tmp').st_mode), stat.S_IMODE(os.stat('/dev/shm').st_mode), sorted(map(int, filter(str.isdigit, os.listdir('/proc'))))[:2])"
    kind, start = Kind(course, LIMITS), lambda: WorkerHandle(course, tmp_path, LIMITS)
    first = workers.take(kind, start)
    before = inside(first, look)
    try:
        first.clean()
        have_cells_executed(first, [(0, Cell(f"import os\n{code}"))], [], soon(first, 5))
    except RunEnded:
        pass
    workers.give_back(kind, first)
    second = workers.take(kind, start)
    found = inside(second, look)
    assert [len(found[0]), *found[1:]] == [1, (), *before[2:]]
    workers.give_back(kind, second)


@needs_sandbox
def test_a_run_finds_nothing_of_an_earlier_one_in_its_memory(worker):
    """Neither cells nor answers: the first process, whose memory each run has a copy of, never held them."""
    assert worker.clean()
    cell = "def signal_to_noise(alphas_cumprod):\n    return ['what the ' + 'answer said'] * 1000\n" + "# somebody's own cell\n" * 1000
    have_cells_executed(worker, [(0, Cell(cell))], [SLOPE], soon(worker))
    have_answer_called(worker, 0, make_cases(SLOPE)[:3], soon(worker))
    scan = """import ctypes
own, result = "".join(["this run's ", "own text"]).encode(), set()
for line in open("/proc/self/maps"):
    place, rights, *_ = line.split()
    if not rights.startswith("rw") or "[v" in line:
        continue
    start, end = (int(part, 16) for part in place.split("-"))
    held = ctypes.string_at(start, end - start)
    for first, second in ((b"somebody's ", b"own cell"), (b"what the ", b"answer said"), (b"this run's ", b"own text")):
        at = held.find(first)
        while at >= 0:
            if held[at + len(first):at + len(first + second)] == second:
                result.add(first.decode())
                break
            at = held.find(first, at + 1)
result = sorted(result)
"""
    assert inside(worker, scan) == ("this run's ",)


@needs_sandbox
def test_a_run_cannot_slow_the_first_process_down(worker):
    code = """import ctypes, os
libc, result = ctypes.CDLL(None, use_errno=True), []
for name, call in {
    "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, 2, 19),
    "of a user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "scheduler": lambda: os.sched_setscheduler(2, os.SCHED_IDLE, os.sched_param(0)),
    "attribute": lambda: os.setxattr("/tmp", "user.left", b"x"),
}.items():
    try:
        call()
        result.append(name)
    except OSError:
        pass
os.nice(1)
"""
    assert inside(worker, code) == ()


@needs_sandbox
@pytest.mark.parametrize(("code", "reasons"), [
    ("failed, hog = True, []\nwhile True: hog.append(bytearray(2**24))", {"raises"}),  # one process: refused by the system
    ("import os, time\nfailed = False\nfor _ in range(5):\n    if os.fork() == 0:\n        hog = bytearray(2**28)\n        time.sleep(60)\n", {"memory"}),
    ("import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        time.sleep(60)\nwhile True: pass", {"processes"}),
])
def test_too_much_memory_or_too_many_processes_end_it(course, tmp_path, code, reasons):
    one = WorkerHandle(course, tmp_path, LIMITS)
    first = descendants(one.process.pid)
    try:
        failures = have_cells_executed(one, [(0, Cell(code)), (1, Cell("import time\ntime.sleep(0 if failed else 50)"))], [], soon(one))
        assert reasons == {"raises"} and set(failures) == {0}
    except CellEndedRun as error:
        assert error.reason in reasons and not one.clean()
    finally:
        one.close()
    assert not any(map(is_alive, first))


@needs_sandbox
def test_files_are_limited(worker):
    code = """result = 0
try:
    with open("big", "wb", buffering=0) as file:
        while True:
            result += file.write(b"x" * 2**20)
except OSError:
    pass
"""
    assert inside(worker, code) <= LIMITS.disk_mib * 2**20


@needs_sandbox
def test_calls_that_pin_pages_are_refused(worker):
    """Pages that a pipe holds are counted for no process."""
    code = """import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
read, write = os.pipe()
result = []
for name, arguments in (("vmsplice", (write, 0, 0, 0)), ("splice", (read, None, write, None, 0, 0)), ("tee", (read, write, 0, 0))):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) != -1 or ctypes.get_errno() != errno.EPERM:
        result.append(name)
"""
    assert inside(worker, code) == ()


@needs_sandbox
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_files_of_no_size_are_counted(course, tmp_path, monkeypatch, place):
    monkeypatch.setattr(watch, "MOST_FILES", 500)
    one = WorkerHandle(course, tmp_path, LIMITS)
    code = f"import time\nfor number in range(1000):\n    open(f'{place}/{{number}}', 'w').close()\ntime.sleep(20)"
    try:
        with pytest.raises(RunEnded) as caught:
            have_cells_executed(one, [(0, Cell(code))], [], soon(one, 15))
        assert caught.value.reason is Reason.MEMORY
    finally:
        one.close()


@needs_sandbox
def test_the_sandbox_ends_with_its_grader(course, tmp_path):
    code = f"""import sys, time
from pathlib import Path
from diffusion_course.classroom.sandbox.limits import WALL, Limits
from diffusion_course.classroom.sandbox.handle import WorkerHandle
worker = WorkerHandle(Path({str(course)!r}), Path({str(tmp_path)!r}), Limits())
print(*(one.pid for one in worker._own), flush=True)
time.sleep(100)
"""
    grader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    below = [psutil.Process(int(one)) for one in grader.stdout.readline().split()]
    assert len(below) >= 2 and all(map(is_alive, below))
    os.kill(grader.pid, signal.SIGKILL)
    grader.wait()
    grader.stdout.close()
    late = time.monotonic() + 10
    while any(map(is_alive, below)) and time.monotonic() < late:
        time.sleep(0.05)
    assert not any(map(is_alive, below))


@needs_sandbox
def test_a_worker_that_was_killed_says_so(course, tmp_path):
    one = WorkerHandle(course, tmp_path, LIMITS)
    try:
        one.process.kill()
        with pytest.raises(RunEnded, match="crash"):
            one.message(soon(one))
        assert not one.clean()
    finally:
        one.close()


STOPS = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nwhile True: pass"


@needs_sandbox
def test_a_run_that_stops_the_first_process_is_ended_and_so_is_the_worker(course, tmp_path, monkeypatch):
    """It is seen, and nobody waits for an answer of a process that stands still."""
    one = WorkerHandle(course, tmp_path, LIMITS)
    try:
        with pytest.raises(RunEnded) as caught:  # whether it could still pass on that the cell began is chance
            have_cells_executed(one, [(7, Cell(STOPS))], [], soon(one))
        assert caught.value.reason is Reason.INTERFERED
        monkeypatch.setattr(one, "_control", None)
        assert not one.clean()
    finally:
        one.close()
    assert not any(map(is_alive, one._own)) and not one._frames.is_alive()


@needs_sandbox
def test_a_pipe_that_is_full_holds_nobody_up(course, tmp_path, monkeypatch):
    """Who reads it stands still, seen or not, and never reads again."""
    monkeypatch.setattr(watch, "are_stopped", lambda processes: False)
    monkeypatch.setattr(handle, "WRITE_SECONDS", 0.5)
    one = WorkerHandle(course, tmp_path, LIMITS)
    try:
        while not (messengers := one._watch.messengers()):
            continue
        messengers[0].suspend()
        with pytest.raises(RunEnded) as caught:
            one.send("x" * 2**20)
        assert caught.value.reason is Reason.TIME and not one.clean()
    finally:
        one.close()
    assert not any(map(is_alive, one._own))


@needs_sandbox
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core, nothing to share")
def test_a_job_has_its_own_cores_and_no_run_takes_those_of_others(course, tmp_path):
    """Forty processes of one student slow down that student."""
    every = os.sched_getaffinity(0)
    first, second = cores.shares(2)
    assert first and second and not first & second and first | second == every and cores.shares(len(every) + 1) == []
    code = """import os
result = []
for wanted in (range(os.cpu_count()), *([one] for one in range(os.cpu_count()))):
    try:
        os.sched_setaffinity(0, wanted)
    except OSError:
        pass
    result += os.sched_getaffinity(0)
if os.fork() == 0:
    os._exit(0)
result = sorted(set(result))
"""
    with ThreadPoolExecutor(1, initializer=cores.keep_to, initargs=(iter([second]),)) as pool:
        one = pool.submit(WorkerHandle, course, tmp_path, LIMITS).result()
        try:
            assert pool.submit(os.sched_getaffinity, 0).result() == every
            assert set(inside(one, code)) == second
        finally:
            one.close()


# Which words there are for what comes out of a call.


class Hostile(BaseException):
    """Raises when it is looked at."""

    def __str__(self):
        raise SystemExit

    __repr__ = __str__


@pytest.mark.parametrize(("error", "word"), [
    (SystemExit(), "escaped"), (KeyboardInterrupt(), "escaped"), (Hostile(), "escaped"), (GeneratorExit(), "escaped"), (ValueError("x"), "unsendable"),
    (MemoryError(), "memory"), (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory"), (RuntimeError(Hostile()), "unsendable"),
    (ImportError("a.so: failed to map segment from shared object"), "memory"), (OSError(12, "Cannot allocate memory"), "memory"),
])
def test_what_ends_a_program_is_one_kind_and_what_has_no_memory_another(error, word):
    assert execution.why_there_is_no_outcome(error) == word


@pytest.mark.parametrize(("failure", "reason"), [(Failure("MemoryError", "", 1), Reason.MEMORY), (Failure("RuntimeError", "can't allocate memory", 1), Reason.MEMORY), (Failure("ValueError", "", 1), Reason.CALL_RAISED)])
def test_an_answer_that_had_no_memory_is_told_so(failure, reason):
    wanted = [(SLOPE, make_cases(SLOPE, 1))]
    attempt = Attempt(tuple(Outcome(failure=failure) for _ in wanted[0][1]))
    made = mark(Assignment("a", "A", (SLOPE.id,), (), seed=1), submission(), wanted, {SLOPE.id: attempt})
    assert made.marks[0].check == reason


@needs_sandbox
def test_an_answer_whose_attributes_raise_is_called(worker):
    """To look whether it is the course's own runs its code."""
    body = HONEST["02.1"].replace("def jump(", "def __call__(self, ").replace("\n", "\n    ")
    hostile = f"class Jump:\n    {body}\n    def __getattr__(self, name):\n        raise ValueError(name)\njump = Jump()\n"
    assert called(worker, "import torch", hostile) == ("found", ())


# Whose time it is.


@pytest.mark.parametrize(("wall", "computed", "awaited", "is_running", "counts"), [
    (0.2, 0.2, True, True, 0.2), (0.2, 0.7, True, True, 0.7), (0.2, 0.0, True, False, 0.2),  # computes, in several processes, sleeps
    (0.2, 0.01, True, True, 0.2 / WALL), (0.2, 0.0, False, False, 0.0), (0.2, 0.1, False, True, 0.1),  # waits for a processor; for the grader; computes unasked
    (30.0, 0.0, True, False, clock.LATEST), (0.2, -1.0, False, True, 0.0),  # the watch was late; a process was not seen
])
def test_a_submissions_time_is_what_it_computes_and_what_it_waits_by_choice(wall, computed, awaited, is_running, counts):
    one = Clock()
    one.passed(wall, computed, awaited=awaited, is_running=is_running)
    assert one.now() == pytest.approx(counts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_what_a_process_that_has_ended_computed_is_counted():
    me = psutil.Process()
    before, _ = used_by([me])
    subprocess.run([sys.executable, "-S", "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert used_by([me])[0] - before >= 0.25


BUSY = "import os\nos.nice(5)\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"


@needs_sandbox
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process can be kept to a core here")
def test_processes_of_another_student_make_no_right_answer_late(course, tmp_path, monkeypatch):
    """All on one core: what takes 0.4 seconds of a processor takes seconds on the wall, and may take one."""
    monkeypatch.setattr(handle, "WALL", 100)
    monkeypatch.setattr(clock, "WALL", 100)
    core = min(os.sched_getaffinity(0))
    others = [subprocess.Popen([sys.executable, "-S", "-c", BUSY.format(core=core)], stdout=subprocess.PIPE, start_new_session=True) for _ in range(6)]
    one = WorkerHandle(course, tmp_path, Limits(seconds=30, seconds_per_call=1))
    try:
        assert all(other.stdout.readline() for other in others)
        for process in descendants(one.process.pid):
            process.cpu_affinity([core])
        answer = "import time\ndef signal_to_noise(alphas_cumprod):\n    while time.process_time() < began + 0.4: pass\n    return alphas_cumprod\n"
        have_cells_executed(one, [(0, Cell(answer + "began = time.process_time()"))], [SLOPE], soon(one))
        assert have_answer_called(one, 0, make_cases(SLOPE)[:1], soon(one))[0] == "found"
    finally:
        one.close()
        for other in others:
            other.kill()
            other.communicate()


@needs_sandbox
@pytest.mark.parametrize("code", ["import time\ntime.sleep(600)", "import os\nif os.fork() == 0:\n    while True: pass\nos.wait()"])
def test_who_sleeps_or_has_others_compute_uses_up_the_time(worker, code):
    assert worker.clean()
    with pytest.raises(CellEndedRun) as caught:
        have_cells_executed(worker, [(0, Cell(code))], [], soon(worker, 0.5))
    assert caught.value.reason is Reason.TIME and worker.clock.now() > 0.5


# What an answer calls of the course.


def called(worker, helper, answer, exercise="02.1"):
    """The state of an answer, and what it called of the package."""
    assert worker.clean()
    exercise = get_exercise(exercise)
    have_cells_executed(worker, [(0, Cell(helper)), (1, Cell(answer))], [exercise], soon(worker))
    state, outcomes, used = have_answer_called(worker, 0, make_cases(exercise)[:2], soon(worker))
    assert not outcomes or judge(exercise, make_cases(exercise)[:2], outcomes).status == "right"
    return state, used


CALLS = "def jump(*a):\n    return {}(*a)\n"


@needs_sandbox
@pytest.mark.parametrize(("helper", "answer"), [
    ("from diffusion_course import *", CALLS.format("q_sample")), ("", CALLS.format("__import__('diffusion_course').q_sample")),
    ("import diffusion_course.process.kernels", "import sys\n" + CALLS.format("sys.modules['diffusion_course.process.kernels'].q_sample")),
    ("from diffusion_course import q_sample as mine\nothers = [mine]", CALLS.format("others[0]")),
    ("import importlib", CALLS.format("getattr(importlib.import_module('diffusion' + '_course'), 'q_' + 'sample')")),
    ("from diffusion_course import q_sample", "import types\nmine = types.FunctionType(q_sample.__code__.replace(co_filename='x', co_qualname='y'), q_sample.__globals__)\nmine.__kwdefaults__ = q_sample.__kwdefaults__\n" + CALLS.format("mine")),
    ("from diffusion_course import q_sample", "import types\njump = types.FunctionType(q_sample.__code__.replace(co_filename='x'), q_sample.__globals__)\njump.__kwdefaults__ = q_sample.__kwdefaults__\n"),
    ("from diffusion_course import q_sample\nimport threading", "def jump(*a):\n    made = []\n    one = threading.Thread(target=lambda: made.append(q_sample(*a)))\n    one.start()\n    one.join()\n    return made[0]\n"),
], ids=["star", "__import__", "sys.modules", "alias", "spelled", "renamed inside", "renamed", "thread"])
def test_a_hand_off_is_recorded_however_it_is_written(worker, helper, answer):
    state, used = called(worker, helper, answer)
    assert state == "found" and "q_sample" in used


@needs_sandbox
def test_an_answer_of_ones_own_has_no_record(worker):
    assert called(worker, "import torch", HONEST["02.1"]) == ("found", ())
    assert called(worker, "import torch\nfrom diffusion_course import q_sample\nq_sample", HONEST["02.1"]) == ("found", ())


IMPORTABLE = {one.id: one.reference.__name__ for one in all_exercises() if str(getattr(one.reference, "__module__", "")).startswith("diffusion_course.process")}


@needs_sandbox
@pytest.mark.parametrize(("exercise", "name"), IMPORTABLE.items())
def test_a_reference_that_can_be_imported_is_the_courses_own(worker, exercise, name):
    answer = get_exercise(exercise).answer_name
    for helper, text in ((f"from diffusion_course import {name} as one", f"{answer} = one"), ("import diffusion_course", f"{answer} = diffusion_course.{name}.__wrapped__")):
        assert called(worker, helper, text, exercise) == ("course", ())


# Attempts.


def test_no_wait_is_longer_than_a_minute():
    assert max(handle.START_SECONDS, handle.WRITE_SECONDS, handle.CLEAN_SECONDS) <= 60


class Slow:
    """Stands for the reused worker: each time that it is asked for takes a minute and ends with a crash."""

    def __init__(self, limits):
        self.limits, self.clock, self.now, self.asked = limits, Clock(), 1000.0, 0

    def monotonic(self):
        return self.now

    def get(self, by):
        self.asked += 1
        self.now += min(60, max(by - self.now, 0))
        return self

    def start(self, cells, specs):
        raise RunEnded(Reason.CRASH)


def test_a_submission_has_a_ceiling_whatever_happens(monkeypatch):
    limits = Limits(seconds=30)
    worker = Slow(limits)
    monkeypatch.setattr(time, "monotonic", worker.monotonic)
    wanted = [(one, make_cases(one)[:1]) for one in all_exercises()[:20]]
    attempting = attempts._Attempting(Task(submission((None, "x = 1")), wanted), worker)
    attempting.together()
    attempting.apart()
    assert worker.now <= 1000 + limits.ceiling and worker.asked < 20
    assert set(attempting.attempts) == {one.id for one, _ in wanted}
    assert {one.reason for one in attempting.attempts.values()} <= {Reason.CRASH, Reason.TIME}


@needs_sandbox
@pytest.mark.slow
def test_every_solution_is_right_through_the_sandbox():
    exercises = all_exercises()
    cells = [(None, "import math\nimport torch"), *((f"answer-{one.id.replace('.', '-')}", one.solution_source()) for one in exercises)]
    wanted = [(one, make_cases(one, 1234)) for one in exercises]
    made, notes = run_attempts(submission(*cells), wanted, Limits(seconds=300))
    wrong = {one.id: made[one.id].reason for one, cases in wanted if judge(one, cases, made[one.id].outcomes).status != "right"}
    assert wrong == {} and notes == () and {name: one.used for name, one in made.items() if one.used} == {}


@needs_sandbox
def test_wrong_missing_renamed_and_raising_answers_say_what_they_are():
    cells = answers(e2_1="def jumps(x0):\n    return x0\n", e2_2="1 / 0\ndef cumulative_alphas(betas):\n    return betas\n", e2_3="signal_to_noise = 3\n")
    wanted = [(one, make_cases(one, 5)) for one in map(get_exercise, HONEST)]
    attempts, _ = run_attempts(submission(*cells), wanted, LIMITS)
    assert [(attempts[name].reason, attempts[name].detail) for name in HONEST] == [
        (Reason.RENAMED, "jumps"), (Reason.CELL_RAISED, "ZeroDivisionError"), (Reason.NOT_A_FUNCTION, ""),
    ]


@needs_sandbox
def test_answers_that_hang_do_not_take_the_others_time():
    hangs = "def {}(*args):\n    while True: pass\n"
    names = {one.id: one.answer_name for one in all_exercises() if not one.is_value and one.lesson in (2, 3)}
    hanging = list(names)[:4]
    cells = [(f"answer-{name.replace('.', '-')}", hangs.format(names[name])) for name in hanging]
    honest = [name for name in names if name not in hanging][:3]
    cells += [(f"answer-{name.replace('.', '-')}", get_exercise(name).solution_source()) for name in honest]
    limits = Limits(seconds=12, seconds_per_cell=2, seconds_per_call=2)
    started = time.monotonic()
    statuses, _ = attempted([(None, "import torch\nimport math"), *cells], [*hanging, *honest], limits)
    assert statuses == ["time"] * 4 + ["right"] * 3
    assert time.monotonic() - started < limits.ceiling


@needs_sandbox
def test_honest_answers_may_use_what_other_cells_made_even_when_one_breaks_the_process():
    cells = answers(e2_1="torch.cumprod = torch.Tensor.__rsub__ = None\ndel globals()['START']\ndef jump(*args): return 0\n",
                    e2_2="def cumulative_alphas(betas):\n    return ONE.cumprod(0)[-1] * (START - betas).cumprod(0)\n")
    cells.insert(1, (None, "START = float(torch.ones(1))\nONE = torch.ones(3).clone()\n"))
    assert attempted(cells)[0] == ["wrong", "right", "right"]


@pytest.mark.parametrize("forks", [True, False])
def test_without_a_sandbox_it_says_what_is_not_protected(monkeypatch, forks):
    if forks and not handle.CAN_FORK:
        pytest.skip("this system's Python does not fork safely")
    monkeypatch.setattr(handle, "CAN_FORK", forks)
    monkeypatch.setenv("CANARY", "7f3a")
    cells = answers(e2_1="import os\ndef jump(*args):\n    return os.environ.get('CANARY', 'none')\n", e2_3="import os\nos._exit(1)\n")
    statuses, notes = attempted(cells, unsafe=True)
    assert statuses == ["wrong", "right", "crash"]
    assert any("graded without a sandbox: submissions could read your files" in note for note in notes)


@pytest.fixture
def asked_again():
    """What is known of this machine's bubblewrap is asked again in a test, and after it."""
    sandbox._problem.cache_clear()
    yield
    sandbox._problem.cache_clear()


def test_without_bubblewrap_it_refuses_and_says_what_to_do(monkeypatch, asked_again):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    assert not sandbox_available()
    with pytest.raises(SandboxMissing, match="apt install bubblewrap.*--unsafe grades without it"):
        run_attempts(submission(), [], LIMITS)


@needs_sandbox
def test_an_environment_that_the_sandbox_cannot_show_is_refused_and_not_marked(monkeypatch, asked_again):
    monkeypatch.setattr(sys, "prefix", "/tmp/course/.venv")
    with pytest.raises(SandboxMissing, match="Python is in /tmp/course/.venv, and /tmp is the sandbox's own: use an environment elsewhere"):
        run_attempts(submission(), [], LIMITS)


@needs_sandbox
def test_a_python_that_does_not_start_in_the_sandbox_is_refused(monkeypatch, asked_again):
    monkeypatch.setattr(sys, "executable", "/usr/bin/no-such-python")
    with pytest.raises(SandboxMissing, match="no-such-python: No such file or directory"):
        run_attempts(submission(), [], LIMITS)
