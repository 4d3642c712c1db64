"""Submissions that cheat, break or are odd, each with the points it must end with. `python tests/attacks.py` prints the table.

The assignment has three exercises of 1, 1 and 1 point: 02.1 `jump`, 02.2 `cumulative_alphas`, 02.3 `signal_to_noise`. An attack
replaces the answer cell of 02.1 (`cheat`), adds a cell before all answers (`before`) or after them (`after`); the other answers
are honest. `points` are those of the three exercises.
"""

from __future__ import annotations

import dataclasses

EXERCISES = ("02.1", "02.2", "02.3")
HONEST = {
    "02.1": """def jump(x0, t, alphas_cumprod, noise):
    alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.dim() - 1))
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
""",
    "02.2": "def cumulative_alphas(betas):\n    return torch.cumprod(1 - betas, dim=0)\n",
    "02.3": "def signal_to_noise(alphas_cumprod):\n    return alphas_cumprod / (1 - alphas_cumprod)\n",
}
BLANK = "def jump(x0, t, alphas_cumprod, noise):\n    return {}\n"
SECRET = "canary-7f3a91"  # stands in files that a submission must not reach


@dataclasses.dataclass(frozen=True)
class Attack:
    """One submission: what replaces the answer of 02.1, what is added, and the points of the three exercises."""

    name: str
    points: tuple[int, int, int]
    cheat: str | None = None
    before: str = ""
    after: str = ""


def returning(expression: str, setup: str = "") -> str:
    """An answer to 02.1 that returns `expression`."""
    return f"{setup}\n{BLANK.format(expression)}"


LIAR = """class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __le__(self, other): return True
    def __float__(self): return 0.0
    def __bool__(self): return True
    def __array__(self, *a, **k):
        import numpy
        return numpy.zeros(1)
    def __torch_function__(self, func, types, args=(), kwargs=None): return torch.tensor(True)
    shape = dtype = device = property(lambda self: self)
    @property
    def __class__(self): return torch.Tensor
"""
SUBCLASS = """class Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.allclose, torch.equal): return True
        return super().__torch_function__(func, types, args, kwargs or {})
    def __eq__(self, other): return True
"""
DISPATCH = """from torch.utils._python_dispatch import TorchDispatchMode
class Lie(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return torch.ones_like(out) if isinstance(out, torch.Tensor) and out.dtype == torch.bool else out
Lie().__enter__()
"""
FORGE = """import os, struct, json
text = json.dumps({"tensors": [], "tree": {"tuple": [{"tuple": ["right"]}, None, {"tuple": []}, False, False, True]}}).encode()
for fd in range(3, 64):
    try:
        os.write(fd, struct.pack("<QQ", len(text), 0) + text)
    except OSError:
        pass
"""
FORGE_FRAMES = """import glob, os, struct
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(path).startswith("pipe:"):
            end = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.write(end, struct.pack("<BI", 1, 3) + b"abc")
            os.write(end, struct.pack("<BI", 0, 2**16) + b"x" * 2**16)
    except OSError:
        pass
"""
SEARCH = """import os
found = []
for top in ("/", os.path.expanduser("~"), os.getcwd()):
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("proc", "usr", "lib", "lib64", "site-packages", "sys")]
        for name in files:
            if name.startswith(("assignment", "hidden", "lesson0")) or name.endswith(".ipynb"):
                found.append(os.path.join(folder, name))
if found:
    raise SystemExit(open(found[0]).read()[:100])
"""
MEMORY = """import gc
for one in gc.get_objects():
    try:
        if type(one).__name__ == "Exercise" or (isinstance(one, dict) and "expected" in one):
            raise SystemExit("found")
    except ReferenceError:
        pass
"""
REFERENCE = """try:
    from diffusion_course.exercises.registry import get_exercise
    jump = get_exercise("02.1").reference
except BaseException:
    def jump(x0, t, alphas_cumprod, noise): return x0
"""
LESSON = """from diffusion_course.exercises.lessons import lesson02
jump = lesson02.JUMP.reference
"""
OUTSIDE = """import os, sys, pathlib, site
for place in ["/", "/home", "/root", "/etc", "/usr", "/var/tmp", "/dev", os.path.dirname(torch.__file__), *map(str, sys.path), "/course"]:
    try:
        (pathlib.Path(place or ".") / "canary-written").write_text("x")
        if place not in ("", "/tmp"):
            raise SystemExit("wrote to " + place)
    except OSError:
        pass
"""
NETWORK = """import socket
for address in (("127.0.0.1", 22), ("127.0.0.1", 8888), ("1.1.1.1", 53), ("example.org", 80)):
    try:
        socket.create_connection(address, timeout=2)
    except OSError:
        continue
    raise SystemExit("connected")
"""
FORKS = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
THREADS = """import threading, time
def work():
    while True: time.sleep(1)
try:
    for _ in range(100000): threading.Thread(target=work, daemon=True).start()
except RuntimeError:
    pass
"""
DAEMON = """import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(10000)
    os._exit(0)
"""
READ_ANCESTORS = f"""import os
seen = b""
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            seen += open(f"/proc/{{pid}}/{{name}}", "rb").read()
        except OSError:
            pass
if {SECRET!r}.encode() in seen or any({SECRET!r} in value for value in os.environ.values()):
    raise SystemExit("read the grader's environment")
"""
PTRACE = """import ctypes, os
libc = ctypes.CDLL(None)
for pid in [os.getppid(), 1, 2]:
    libc.ptrace(16, pid, 0, 0)
"""
WRITE = """import os, struct, json, time
def told(*tree):
    text = json.dumps({"tensors": [], "tree": {"tuple": list(tree)}}).encode()
    return struct.pack("<QQ", len(text), 0) + text
def write(data):
    for fd in range(3, 64):
        try: os.write(fd, data)
        except OSError: pass
"""
KILLER = """import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(0.1)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) not in (1, os.getpid()):
            try: os.kill(int(pid), 9)
            except OSError: pass
    os._exit(0)
"""
BABBLER = WRITE + """if os.fork() == 0:
    os.setsid()
    while True:
        write(told("cell", 2) + told("cells", {"tuple": []}) + told("found") + told("x", None, {"tuple": []}, False, False, True) * 20)
        time.sleep(0.01)
"""
BLAME = WRITE + 'write(told("cell", 3))\nos._exit(1)\n'
INJECT = WRITE + """run = told("run", {"tuple": ["while True: pass"]}, {"tuple": []})
for fd in os.listdir("/proc/self/fd"):
    try: os.write(os.open("/proc/self/fd/" + fd, os.O_WRONLY | os.O_NONBLOCK), run * 3)
    except OSError: pass
"""
UNFOLDS = """import os, struct, json
raw = b"x" * (60 * 2**20)
tensors = [{"dtype": "uint8", "shape": [len(raw)], "order": [0], "bytes": len(raw)}]
text = json.dumps({"tensors": tensors, "tree": {"tuple": [{"tuple": [{"tensor": 0}] * 2000}, None, {"tuple": []}, False, False, True]}}).encode()
def jump(*args):
    for fd in range(3, 64):
        data = struct.pack("<QQ", len(text), len(raw)) + text + raw
        try:
            while data: data = data[os.write(fd, data):]
        except OSError: pass
"""
HIDDEN_MEMORY = """import os
kept = []
try:
    for _ in range(150):
        kept.append(os.memfd_create("x"))
        os.posix_fallocate(kept[-1], 0, 31 * 2**20)
except OSError:
    pass
if len(kept) > 100: raise SystemExit("found")
"""
SHADOWS = """import os
for place in {os.getcwd(), "/tmp", os.path.expanduser("~")}:
    for name in ("matplotlib", "numpy", "scipy", "IPython", "math2"):
        os.makedirs(f"{place}/{name}", exist_ok=True)
        open(f"{place}/{name}/__init__.py", "w").write("raise SystemExit")
"""
OTHERS_LIMITS = """import os, resource
for pid in (os.getppid(), 2):
    for name in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE):
        try: resource.prlimit(pid, name, (1, 1))
        except OSError: pass
"""
CLASS_BODY = "class X:\n    torch.cumprod = torch.Tensor.__rsub__ = torch.Tensor.__truediv__ = None\n"
DEEP = "x = ()\nfor _ in range(100000): x = (x,)\n"
SELF = "x = []\nx.append(x)\n"
ALL_RIGHT, CHEATED = (1, 1, 1), (0, 1, 1)
BIG_CELL = "data = '" + "x" * 3_000_000 + "'\n"

ATTACKS = (
    # Honest controls.
    Attack("honest", ALL_RIGHT),
    Attack("numpy inside", ALL_RIGHT, """import numpy as np
def jump(x0, t, alphas_cumprod, noise):
    a = alphas_cumprod[t].to(x0.dtype).float().numpy().reshape(-1, *[1] * (x0.dim() - 1)).astype(np.float64)
    a = alphas_cumprod[t].double().numpy().reshape(-1, *[1] * (x0.dim() - 1))
    out = np.sqrt(a) * x0.double().numpy() + np.sqrt(1 - a) * noise.double().numpy()
    return torch.from_numpy(out).to(x0.dtype)
"""),
    Attack("helper in another cell", ALL_RIGHT, "def jump(x0, t, alphas_cumprod, noise):\n    return blend(x0, alphas_cumprod[t], noise)\n",
           before="def blend(x, a, z):\n    a = a.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))\n    return a.sqrt() * x + (1 - a).sqrt() * z\n"),
    Attack("class with __call__", ALL_RIGHT, f"class Jump:\n    def __call__(self, x0, t, alphas_cumprod, noise):\n        return inner(x0, t, alphas_cumprod, noise)\ninner = None\n{HONEST['02.1'].replace('def jump', 'def inner')}\njump = Jump()\n"),
    Attack("magics and shell lines", ALL_RIGHT, before="%matplotlib inline\n!ls\n%pip install nothing-at-all\nget_ipython().run_line_magic('time', '')\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\ndisplay(3)\n"),
    Attack("another cell raises", ALL_RIGHT, before="1 / 0\n", after="raise SystemExit\n"),
    Attack("KeyboardInterrupt in another cell", ALL_RIGHT, before="raise KeyboardInterrupt\n"),
    Attack("syntax error in another cell", ALL_RIGHT, before="def (:\n"),
    Attack("input() in another cell", ALL_RIGHT, before="input('name? ')\n"),
    Attack("breakpoint() in another cell", ALL_RIGHT, before="breakpoint()\n"),
    Attack("a cell of 3 MB", ALL_RIGHT, before=BIG_CELL),
    # Lies about equality.
    Attack("object with a lying __eq__", CHEATED, returning("Liar()", LIAR)),
    Attack("tensor subclass that lies", CHEATED, returning("torch.zeros_like(x0).as_subclass(Lazy)", SUBCLASS)),
    Attack("dispatch mode left on", CHEATED, returning("torch.zeros_like(x0)", DISPATCH)),
    Attack("torch.allclose patched", CHEATED, returning("torch.zeros_like(x0)", "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True")),
    Attack("assert_close patched", CHEATED, returning("x0", "import torch.testing\ntorch.testing.assert_close = lambda *a, **k: None")),
    Attack("Tensor operators patched", CHEATED, returning("x0", "torch.Tensor.__eq__ = torch.Tensor.__sub__ = lambda a, b: torch.zeros(())\ntorch.Tensor.all = lambda *a, **k: True")),
    Attack("the package's comparison patched", CHEATED, returning("x0", "import diffusion_course.exercises.compare as c, diffusion_course.exercises.engine as e\nc.difference = e.difference = lambda *a, **k: None\ne.judge = e.evaluate = lambda *a, **k: None")),
    Attack("the worker's functions patched", CHEATED, returning("x0", "import sys\nfor m in list(sys.modules.values()):\n    for name in ('encode_outcome', 'run_case', 'unchanged', 'plain'):\n        if hasattr(m, name): setattr(m, name, lambda *a, **k: None)")),
    Attack("builtins patched", CHEATED, returning("x0", "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.all = builtins.any = lambda *a: True\nbuiltins.isinstance = lambda *a: True")),
    Attack("numpy patched", CHEATED, returning("x0", "import numpy\nnumpy.allclose = numpy.array_equal = lambda *a, **k: True")),
    Attack("sys.modules replaced", CHEATED, returning("x0", "import sys, types\nfor name in list(sys.modules):\n    if name.startswith('diffusion_course'): sys.modules[name] = types.ModuleType(name)")),
    Attack("forged messages in a cell", CHEATED, FORGE + returning("x0")),
    Attack("forged messages in the answer", CHEATED, "def jump(x0, t, alphas_cumprod, noise):\n" + "\n".join("    " + line for line in FORGE.splitlines()) + "\n    return x0\n"),
    Attack("forged frames in the pipes of other processes", ALL_RIGHT, before=FORGE_FRAMES),
    Attack("every descriptor closed", CHEATED, returning("x0", "import os\nos.closerange(0, 256)")),
    Attack("NaN", CHEATED, returning("x0 * float('nan')")),
    Attack("infinity", CHEATED, returning("x0 * float('inf')")),
    Attack("meta tensor", CHEATED, returning("x0.to('meta')")),
    Attack("fake tensor", CHEATED, returning("F.from_tensor(x0)", "from torch._subclasses.fake_tensor import FakeTensorMode\nF = FakeTensorMode()")),
    Attack("sparse tensor", CHEATED, returning("x0.to_sparse()")),
    Attack("quantised tensor", CHEATED, returning("torch.quantize_per_tensor(x0.float(), 0.1, 0, torch.qint8)")),
    Attack("complex tensor", CHEATED, returning("x0 + 0j")),
    Attack("tensor of a thousand billion numbers", CHEATED, returning("torch.zeros(1).expand(10**12)")),
    Attack("huge int", CHEATED, returning("10**100000")),
    Attack("text of a gigabyte", CHEATED, returning("'x' * 10**9")),
    Attack("list in itself", CHEATED, returning("x", SELF)),
    Attack("very deep nesting", CHEATED, returning("x", DEEP)),
    Attack("generator function", CHEATED, "def jump(x0, t, alphas_cumprod, noise):\n    yield x0\n"),
    Attack("coroutine", CHEATED, "async def jump(x0, t, alphas_cumprod, noise):\n    return x0\n"),
    # The reference and the hidden cases.
    Attack("the course's own function", CHEATED, "from diffusion_course import q_sample as jump\n"),
    Attack("a partial of the course's function", CHEATED, "import functools\nfrom diffusion_course import q_sample\njump = functools.partial(q_sample)\n"),
    Attack("the registry's reference", CHEATED, REFERENCE),
    Attack("the lesson's module", CHEATED, LESSON),
    Attack("solution() and evaluate()", CHEATED, returning("solution('02.1') or x0", "from diffusion_course.exercises import solution, check")),
    Attack("search for hidden cases", ALL_RIGHT, before=SEARCH),
    Attack("search in memory", ALL_RIGHT, before=MEMORY),
    Attack("stack frames", CHEATED, returning("[f for f in __import__('inspect').stack() if 'expected' in f.frame.f_locals][0].frame.f_locals['expected']")),
    Attack("the grader's environment", ALL_RIGHT, before=READ_ANCESTORS),
    Attack("ptrace of other processes", ALL_RIGHT, before=PTRACE),
    # Harm.
    Attack("write outside", ALL_RIGHT, before=OUTSIDE),
    Attack("network", ALL_RIGHT, before=NETWORK),
    Attack("fork bomb in a cell", CHEATED, FORKS),
    Attack("fork bomb in the answer", CHEATED, "def jump(x0, t, alphas_cumprod, noise):\n" + "".join("    " + line + "\n" for line in FORKS.splitlines())),
    Attack("a hundred thousand threads", ALL_RIGHT, before=THREADS),
    Attack("daemon that outlives", ALL_RIGHT, before=DAEMON),
    Attack("memory hog in Python", CHEATED, returning("x0", "hog = [bytearray(10**7) for _ in range(10**5)]")),
    Attack("memory hog in torch", CHEATED, returning("torch.ones(10**11)")),
    Attack("temporary folder filled", CHEATED, returning("x0", "with open('/tmp/big', 'wb') as f:\n    while True: f.write(b'x' * 10**6)")),
    Attack("shared memory filled", ALL_RIGHT, before="try:\n    with open('/dev/shm/big', 'wb') as f:\n        while True: f.write(b'x' * 10**6)\nexcept OSError:\n    pass\n"),
    Attack("endless loop in a cell", CHEATED, "while True: pass\n"),
    Attack("endless loop in the answer", CHEATED, "def jump(x0, t, alphas_cumprod, noise):\n    while True: pass\n"),
    Attack("sleeps", CHEATED, "import time\ndef jump(x0, t, alphas_cumprod, noise):\n    time.sleep(10**6)\n"),
    Attack("loop in C", CHEATED, returning("x0", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')")),
    Attack("signals ignored", CHEATED, "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass\n"),
    Attack("endless output", CHEATED, "import os\nwhile True: os.write(1, b'x' * 10**6)\n"),
    Attack("much output, then honest", ALL_RIGHT, before="print('x' * 10**7)\nimport sys\nsys.stderr.write('y' * 10**7)\n"),
    Attack("os._exit in a cell", CHEATED, "import os\nos._exit(0)\n"),
    Attack("os._exit in the answer", CHEATED, returning("__import__('os')._exit(0)")),
    Attack("os._exit in an extra cell", ALL_RIGHT, before="import os\nos._exit(0)\n"),
    Attack("sys.exit in the answer", CHEATED, returning("__import__('sys').exit(0)")),
    Attack("BaseException in the answer", CHEATED, "class Mine(BaseException): pass\ndef jump(x0, t, alphas_cumprod, noise):\n    raise Mine\n"),
    Attack("segmentation fault in a cell", CHEATED, "import ctypes\nctypes.string_at(0)\n"),
    Attack("segmentation fault in the answer", CHEATED, returning("__import__('ctypes').string_at(0)")),
    Attack("kills itself and everything", CHEATED, "import os, signal\nos.kill(-1, signal.SIGKILL)\n"),
    Attack("kills its parent", CHEATED, "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time; time.sleep(1)\n"),
    Attack("stops itself", CHEATED, "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"),
    Attack("infinite recursion", CHEATED, "def jump(x0, t, alphas_cumprod, noise):\n    return jump(x0, t, alphas_cumprod, noise)\n"),
    Attack("atexit handler", ALL_RIGHT, before="import atexit, time\natexit.register(time.sleep, 10000)\n"),
    Attack("trace function", ALL_RIGHT, before="import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\n"),
    # What another answer leaves behind must not cost the honest ones.
    Attack("torch broken for the others", CHEATED, returning("x0", "torch.cumprod = torch.Tensor.__rsub__ = torch.Tensor.__truediv__ = None")),
    Attack("torch.Tensor.detach broken for the others", CHEATED, returning("x0", "torch.Tensor.detach = torch.Tensor.clone = lambda self: self * 0")),
    Attack("other answers redefined", CHEATED, returning("x0", "cumulative_alphas = signal_to_noise = None")),
    Attack("answers of others come back empty", CHEATED, returning("x0", "torch.Tensor.clone = lambda self, **k: None")),
    Attack("answers of others are reported blank", CHEATED, returning("x0", "import diffusion_course.exercises.trial as t, sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'run_case'): m.run_case = lambda *a, **k: t.Outcome(None)")),
    Attack("torch broken in bodies of classes", CHEATED, returning("x0", CLASS_BODY), before=CLASS_BODY),
    Attack("a daemon that kills what comes later", CHEATED, returning("x0", KILLER)),
    Attack("a daemon that answers for the others", CHEATED, returning("x0", BABBLER)),
    Attack("blames the cell of another answer", CHEATED, BLAME),
    Attack("an extra cell blames an answer", ALL_RIGHT, before=BLAME),
    Attack("messages to the worker's first process", CHEATED, returning("x0", INJECT)),
    Attack("limits set for the first process", CHEATED, returning("x0", OTHERS_LIMITS)),
    Attack("stops its parent", CHEATED, "import os\nos.kill(os.getppid(), 19)\n"),
    Attack("modules that shadow others", CHEATED, returning("x0", SHADOWS)),
    Attack("memory that is counted nowhere", ALL_RIGHT, before=HIDDEN_MEMORY),
    Attack("a short message that unfolds", CHEATED, UNFOLDS),
    Attack("an exception with a name that cannot be written", CHEATED, "E = type('<b>é\\n', (Exception,), {})\ndef jump(*args, **kwargs):\n    raise E('\\ud800')\n"),
    Attack("the course's function under another module", CHEATED, "from diffusion_course import q_sample as jump\njump.__module__ = '__main__'\n"),
    Attack("output of a shell line assigned", ALL_RIGHT, before="files = !ls\nwho = %who\n"),
    Attack("await in a cell", ALL_RIGHT, before="import asyncio\nawait asyncio.sleep(0)\n"),
    Attack("default dtype changed", ALL_RIGHT, before="torch.set_default_dtype(torch.float64)\n"),
    Attack("gradients switched off", ALL_RIGHT, before="torch.set_grad_enabled(False)\n"),
    Attack("autocast left on", ALL_RIGHT, before="torch.autocast('cpu', torch.bfloat16).__enter__()\n"),
    # Answers that are not there.
    Attack("left blank", CHEATED, returning("...")),
    Attack("renamed function", CHEATED, HONEST["02.1"].replace("def jump", "def jumps")),
    Attack("a lookalike name", CHEATED, HONEST["02.1"].replace("def jump", "def јump")),
    Attack("no cell at all", CHEATED, ""),
    Attack("syntax error in the answer", CHEATED, "def jump(x0, t:\n"),
    Attack("a number for a function", CHEATED, "jump = 3\n"),
)


def cells(attack: Attack) -> list[tuple[str | None, str]]:
    """(grade id, source) of the submission's cells."""
    made = [(None, "import torch"), (None, attack.before)]
    for exercise in EXERCISES:
        own = attack.cheat if exercise == "02.1" and attack.cheat is not None else HONEST[exercise]
        made.append((f"answer-{exercise.replace('.', '-')}", own))
    return [(name, source) for name, source in [*made, (None, attack.after)] if source]


if __name__ == "__main__":
    print("| submission | points of 02.1, 02.2, 02.3 |\n|---|---|")
    for one in ATTACKS:
        print(f"| {one.name} | {', '.join(map(str, one.points))} |")
