#!/usr/bin/env python3
"""auto.py: break our C files in small ways, hundreds of them, and see the tests notice.

    auto.py COUNT [SEED]        that many, drawn by chance from all files; all: every one; first:
                                those that lab/mutants/first has tests for
    ONLY=REGEX                  only those whose description matches, "file:line kind: ..."
    WORLDS="amd qemu"           only there
    LANES=1                     so many machines at a time

All mutants are in one build (sites.py), each turned on by its number. First the tests
that lab/mutants/first has for them are tried. If mutants are left, the tests are run
without any, one by one, to see which pass and which mutants they come by; then
for each mutant the tests that do, the quickest first, until one fails, or the kernel
complains. Mutants that none of them notices have survived, unless lab/mutants/equivalent
says why nothing can.

All of this goes to build/mutants/auto.SEED.COUNT.log as it comes (journal.py): a run that
was stopped goes on there, and one with new tests tries only what is left.
"""
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import journal
import sites

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("BUILD", ROOT / "build")).resolve()
WORK = BUILD / "mutants/auto"
LOGS = BUILD / "log/mutants"
KERNEL_FILES = ("virt", "arch")
QEMU_FILES = ("qemu/backends", "qemu/hw", "qemu/accel")

# Where mutants are tried, one after the other: the lab, the kernel, the modules' parameters,
# the programs, and which files it is the place for. A test that takes longer than SLOWEST
# seconds is left out.
SLOWEST = 40
# A machine that has said nothing for so long, which is more than a mutant's tests of one program may
# take, is stuck.
SILENT = 400
# So many seconds of each program's tests come before the rest of them; and so many are enough
# for one mutant in a world, of those tests that come by the fewest mutants.
QUICK = 6
ENOUGH = int(os.environ.get("ENOUGH", "90"))
EVERYTHING = ["test", "abi_test", "access_test", "bound_test", "dirty_test", "doorbell_test", "fill_test",
              "matrix_test", "miss_test", "mmu_test", "race_test", "revoke_test", "shapes_test", "stall_test"]
WORLDS = {
    "amd": ("amd", "light", "", EVERYTHING, "^(?!.*(view|vmx|prove|qemu))"),
    "shadow": ("amd", "light", "kvm-amd.npt=0", ["mmu_test", "test", "revoke_test", "dirty_test"], "x86/kvm/mmu/vm2vm.c"),
    "legacy": ("amd", "light", "kvm.tdp_mmu=0", ["mmu_test", "test", "revoke_test", "dirty_test"], "x86/kvm/mmu/vm2vm.c"),
    "emulated": ("amd", "light", "kvm.force_emulation_prefix=1", ["access_test", "dirty_test"], "access|dirty"),
    "preempted": ("amd", "light", "preempt=full", ["revoke_test"], "fault|revoke|doorbell|irq|fill|miss"),
    "intel": ("intel", "light", "", ["test", "view_test", "revoke_test", "doorbell_test"], "view|vmx|prove|doorbell"),
    "tlb": ("tlb", "light", "", ["view_test", "revoke_test", "dirty_test"], "revoke|dirty|view|vmx"),
    "inject": ("amd", "debug", "", ["inject_test", "abi_test", "revoke_test"], "."),
    "qemu": ("amd", "base", "", ["link_peer_test.py", "backend_peer_test.py", "backend_test.py", "vhost_user_peer_test.py",
                                 "vhost_user_hostile_test.py", "link_test.py"], "qemu/"),
}

HEADER = """
extern int vm2vm_mutant;
extern unsigned char %(hits)s;
#define VM2VM_MUTANT(n) (vm2vm_mutant_hit[n] = 1, __builtin_expect(*(volatile int *)&vm2vm_mutant == (n), 0))
"""
KERNEL_SUPPORT = """
int vm2vm_mutant;
EXPORT_SYMBOL_GPL(vm2vm_mutant);
unsigned char vm2vm_mutant_hit[%(size)d];
EXPORT_SYMBOL_GPL(vm2vm_mutant_hit);
static int vm2vm_mutant_set(const char *val, const struct kernel_param *kp)
{
	return kstrtoint(val, 0, &vm2vm_mutant);
}
static int vm2vm_mutant_get(char *buffer, const struct kernel_param *kp)
{
	int i, len = 0;

	for (i = 0; i < %(size)d; i++)
		if (xchg(&vm2vm_mutant_hit[i], 0) && len < PAGE_SIZE - 16)
			len += sprintf(buffer + len, "%%d ", i);
	return len + sprintf(buffer + len, "\\n");
}
static const struct kernel_param_ops vm2vm_mutant_ops = { .set = vm2vm_mutant_set, .get = vm2vm_mutant_get };
module_param_cb(vm2vm_mutant, &vm2vm_mutant_ops, NULL, 0644);
"""
# QEMU is killed by some tests, so what it comes by goes to a file as it does
QEMU_SUPPORT = """
#include <sys/mman.h>
int vm2vm_mutant;
static unsigned char no_hits[%(size)d];
unsigned char *vm2vm_mutant_hit = no_hits;
static void __attribute__((constructor)) vm2vm_mutant_init(void)
{
    const char *n = getenv("VM2VM_MUTANT"), *hits = getenv("VM2VM_MUTANT_HITS");
    int fd = hits ? open(hits, O_RDWR) : -1;

    vm2vm_mutant = n ? atoi(n) : 0;
    if (fd >= 0 && !ftruncate(fd, %(size)d)) {
        vm2vm_mutant_hit = mmap(NULL, %(size)d, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
}
"""


# QEMU's needs to know what lab/vms/links.sh knows; races take more than a few trials
RUNNER = {"preempted": f"env VM2VM_TRIALS=100 {ROOT}/lab/mutants/runner.sh",
          "emulated": f"env VM2VM_TRIALS=50 {ROOT}/lab/mutants/runner.sh",
          "qemu": f"env QEMU={WORK}/qemu/build/qemu-system-x86_64 BUILD={BUILD} L2_KERNEL={BUILD}/base/arch/x86/boot/bzImage "
                  f"VMS_LOGS=/tmp/vms PYTHONDONTWRITEBYTECODE=1 {ROOT}/lab/mutants/runner.sh"}


def say(text):
    print(f"[{time.monotonic() - START:4.0f}s] {text}", flush=True)


def bash(script, check=True, **how):
    """Run a piece of shell with the lab's functions."""
    return subprocess.run(["bash", "-c", f'. "{ROOT}/lab/lib.sh"; work={WORK}; . "{ROOT}/lab/mutants/work.sh"; {script}'],
                          check=check, **how)


def listed(*under):
    files = subprocess.run(["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "--", *under],
                           check=True, capture_output=True, text=True).stdout.split()
    return sorted({f for f in files if (ROOT / f).is_file()})


def our_files(*under):
    return [f for f in listed(*under) if f.endswith(".c") and "stub" not in f]


def draw(count, seed):
    """The mutants to try. From each file a share that is in proportion, two at least. Each has its own
    chance, by its key: code that changes elsewhere does not change whether it is drawn."""
    by_file = {}
    for f in our_files(*KERNEL_FILES, *QEMU_FILES):
        by_file[f] = sites.without_overlaps(sites.find(f, (ROOT / f).read_text()))
    pattern = os.environ.get("ONLY", "")
    everything = [m for ms in by_file.values() for m in ms if re.search(pattern, str(m))]
    if count == "first":
        keys = {key for *_, key in first_tests()}
        chosen = [m for m in everything if m.key() in keys]
    elif count == "all" or int(count) >= len(everything):
        chosen = everything
    else:
        def chance(m):
            return hashlib.sha256(f"{seed} {m.key()}".encode()).digest()

        chosen = [m for ms in by_file.values() for m in sorted(ms, key=chance)[:2]] if not pattern else []
        chosen = chosen[:int(count)]
        rest = [m for m in everything if m not in chosen]
        chosen += sorted(rest, key=chance)[:int(count) - len(chosen)]
    chosen.sort(key=lambda m: (m.path, m.start, m.end, m.kind))
    for n, m in enumerate(chosen, 1):
        m.number = n
    return chosen


def place(tree, strip, mutants, hits, support):
    """Write the files with the mutants in them into a tree of hard links."""
    size = max((m.number for m in mutants), default=0) + 1
    first = True
    for path in sorted({m.path for m in mutants}):
        source = (ROOT / path).read_text()
        text = sites.instrument(source, [m for m in mutants if m.path == path])
        text = HEADER % {"hits": hits} + f'#line 1 "{path}"\n' + text
        if first:
            text += support % {"size": size}
        first = False
        target = tree / path[len(strip):]
        if not target.exists() or target.read_text() != text:
            new = target.with_suffix(".new")
            new.write_text(text)
            new.replace(target)


def build_until_it_works(what, mutants, log, write, build):
    """Leave out the mutants on lines that the compiler does not take, until it does."""
    mutants = [m for m in mutants if m.number not in log.invalid]
    while True:
        write(mutants)
        errors = build()
        if errors is None:
            return mutants
        bad = {(f, int(n)) for f, n in re.findall(r"^([\w/.-]+\.c):(\d+):(?:\d+:)? error:", errors, re.M)}
        left = [m for m in mutants if not any(m.path.endswith(f) and m.line <= n <= m.line + 12 and
                                              n <= m.line + (ROOT / m.path).read_text()[m.start:m.end].count("\n")
                                              for f, n in bad)]
        if len(left) == len(mutants):
            sys.exit(f"{what} does not build:\n{errors[-3000:]}")
        say(f"{what}: {len(mutants) - len(left)} mutants are not C, and left out")
        for m in mutants:
            if m not in left:
                log.write(f"invalid {m.number}")
        mutants = left


def build_kernels(mutants, kernels, log):
    def write(ms):
        place(WORK / "linux", "", ms, "vm2vm_mutant_hit[]", "#include <linux/moduleparam.h>\n" + KERNEL_SUPPORT)

    def build():
        for k in kernels:
            messages = LOGS / f"build-{k}.log"
            if bash(f"build {k} {messages} amd intel", check=False).returncode:
                return messages.read_text()
        return None

    for k in kernels:
        bash(f"prepare {k}")
    say(f"building KVM with {len(mutants)} mutants ({' '.join(kernels)})")
    return build_until_it_works("KVM", mutants, log, write, build)


def build_qemu(mutants, log):
    def build():
        messages = LOGS / "build-qemu.log"
        return None if not bash(f"build_qemu {messages}", check=False).returncode else messages.read_text()

    bash("prepare_qemu; lab/build/guest.sh", cwd=ROOT)
    say(f"building QEMU with {len(mutants)} mutants")
    return build_until_it_works("QEMU", mutants, log,
                                lambda ms: place(WORK / "qemu/src", "qemu/", ms, "*vm2vm_mutant_hit", QEMU_SUPPORT), build)


machines = set()


def lab(world, command, name, timeout=3600):
    """Run the runner in a lab; its lines, as they come, and how it ended."""
    where, kernel, params, _, _ = WORLDS[world]
    modules = BUILD if world == "qemu" else WORK
    env = dict(os.environ, LAB=where, KERNEL=kernel, PARAMS=params, MODULES=str(modules / kernel), BUILD=str(BUILD), CMD=command, TIMEOUT=str(timeout), LOG=str(LOGS / f"console-{name}.log"))
    with open(LOGS / f"{name}.log", "w", encoding="utf-8", errors="replace") as log, subprocess.Popen(
            [ROOT / "lab/machine/run.sh"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True) as p:
        machines.add(p)
        for line in lines_of(p):
            log.write(line)
            log.flush()
            if line.startswith("@@ ") or line.startswith("lab: FAILED"):
                yield line.strip()
        machines.discard(p)


def lines_of(machine):
    """What it says. A mutant may have all of its CPUs stand still, so it has to say something in time."""
    while True:
        silent = threading.Timer(SILENT, lambda: os.killpg(machine.pid, signal.SIGTERM))
        silent.start()
        line = machine.stdout.readline()
        silent.cancel()
        if not line:
            return
        yield line


def stop(*_):
    """What was found out so far is in the journal."""
    for p in list(machines):
        os.killpg(p.pid, signal.SIGTERM)
    os._exit(130)


def programs(world, more=()):
    """path -> a hash that says whether its tests are still the same; more: than are for all its mutants"""
    if world == "qemu":
        common = [p for p in (ROOT / "lab/vms").glob("*.py") if not p.stem.endswith("_test")]
        return {p: journal.of_files([*common, p]) for p in (ROOT / "lab/vms" / p for p in WORLDS[world][3])}
    paths = [BUILD / "selftests" / p for p in dict.fromkeys([f"vm2vm_{p}" for p in WORLDS[world][3]] + list(more))]
    return {p: journal.of_files([p]) for p in paths}


def runner(world):
    return RUNNER.get(world, str(ROOT / "lab/mutants/runner.sh"))


def fail(text):
    say(text)
    os._exit(1)


def cover_in_machine(world, name, mine, hashes, log):
    """As many of these programs' tests as one machine lives for; whether that was all."""
    known = WORK / f"{name}.known"
    known.write_text("".join(f"{p} {t}\n" for (w, n, t) in log.tests for p in mine if (w, n) == (world, p.name)))
    at, progress = None, False
    for line in lab(world, f"{runner(world)} cover {SLOWEST} {known} {' '.join(map(str, mine))}", name):
        w = line.split()
        if line.startswith("lab: FAILED"):
            fail(f"{world}: without a mutant: {line}")
        elif w[1] == "end":
            return True
        elif w[1] == "at":
            at = (Path(w[2]), w[3])
        elif w[1] == "test":
            tested(world, Path(w[4]), w[5], log, w[2], w[3], w[6:])
            at, progress = None, True
        elif w[1] == "covered":
            log.write(f"covered {world} {Path(w[2]).name} {hashes[Path(w[2])]}")
    if at:
        # Seconds of a slow emulator's are long ones
        tested(world, *at, log, "bad", 0, [])
    elif not progress:
        fail(f"{world}: no results: {LOGS}/{name}.log")
    return False


def tested(world, program, test, log, how, ms, hits):
    log.write(f"test {world} {program.name} {how} {ms} {test} {' '.join(hits)}")
    if how != "ok":
        say(f"{world}: left out, as it fails or takes too long without a mutant: {program.name} {test}")


def cover(world, lanes, log):
    """(program, test) -> (milliseconds, mutants it comes by), for tests that pass."""
    hashes = programs(world)
    left = [p for p in hashes if (world, p.name, hashes[p]) not in log.covered]

    def some(part):
        while not cover_in_machine(world, f"cover-{world}-{part}", left[part::lanes], hashes, log):
            pass

    if left:
        say(f"{world}: running the tests one by one, without a mutant")
        together([lambda i=i: some(i) for i in range(min(lanes, len(left)))])
    tests = {(p, t): (ms, hits) for p in hashes for (w, name, t), (ok, ms, hits) in log.tests.items()
             if ok and (w, name) == (world, p.name)}
    say(f"{world}: {len(tests)} tests, {sum(t[0] for t in tests.values()) // 1000} s of them")
    return tests


def together(functions):
    threads = [threading.Thread(target=f) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def patience(ms):
    """How many seconds to give what took so long without a mutant."""
    return 15 + ms * 4 // 1000


def todo_for(tests, number, rest):
    """For the runner: the programs' tests that come by a mutant, the quickest program first; of
    each program the quickest ones for a start, or the rest of them. (seconds, program, tests)"""
    by_program, seconds = {}, 0
    for (program, test), (ms, hits) in sorted(tests.items(), key=lambda t: len(t[1][1])):
        if number in hits:
            seconds += ms / 1000
            by_program.setdefault(program, []).append((ms, test, seconds > ENOUGH, len(hits)))
    todo = []
    if by_program and not rest:
        # By most of them everything stands still: to see that takes but one test
        ms, program, test = min((t[0], program, t[1]) for program, ts in by_program.items() for t in ts)
        todo.append((patience(ms), program, [test]))
    for program, ts in sorted(by_program.items(), key=lambda p: min(t[3] for t in p[1]) if rest else sum(t[0] for t in p[1])):
        ts.sort()
        quick = 1
        while quick < len(ts) and sum(t[0] for t in ts[:quick + 1]) < QUICK * 1000:
            quick += 1
        ts = [t for t in ts[quick:] if not t[2]] if rest else ts[:quick]
        # One program takes a single name
        for part in [[t] for t in ts[:12]] if program.name.endswith("matrix_test") else [ts]:
            if part:
                todo.append((patience(sum(t[0] for t in part)), program, [t[1] for t in part]))
    return todo


class World:
    """A lab, and what is known of the mutants in it."""

    def __init__(self, name, mutants, log, lanes):
        self.name, self.log, self.lanes = name, log, lanes
        self.by_number = {m.number: m for m in mutants}
        self.hashes = programs(name, [program for world, program, *_ in first_tests() if world == name])
        self.tests = {}
        paths = {p.name: p for p in self.hashes}
        keys = {m.key(): m.number for m in mutants}
        self.first = [(keys[key], paths[program], tests) for world, program, tests, key in first_tests()
                      if world == name and key in keys and program in paths]

    def todo(self, number, rest):
        """The lines for the runner that are left. rest is None: of the tests to be tried first"""
        if number in self.log.killed:
            return []
        chosen = ([(patience(SLOWEST * 1000), program, names) for n, program, names in self.first if n == number]
                  if rest is None else todo_for(self.tests, number, rest))
        return [f"{number} {seconds} {program} {' '.join(names)}"
                for seconds, program, names in chosen
                if (self.name, number, program.name, self.hashes[program], ",".join(names)) not in self.log.passed]

    def comes_by(self, number):
        return any(number in hits for _, hits in self.tests.values())

    def killed(self, number, by):
        self.log.write(f"killed {self.name} {number} {by}")
        say(f"{self.name}: killed: {self.by_number[number]} [{by}]")

    def take(self, line):
        """A line of the runner's: the mutant that it is at now."""
        w = line.split()
        number = int(w[2])
        if w[1] == "passed":
            p = Path(w[3])
            self.log.write(f"passed {self.name} {number} {p.name} {self.hashes[p]} {','.join(w[4:])}")
        elif w[1] == "killed":
            self.killed(number, " ".join(w[3:]))
        return number if w[1] in ("begin", "passed") else None

    def try_all(self, numbers, rest, part):
        """The mutants, one after the other; anew when the kernel has died of one."""
        while True:
            lines = [line for n in numbers for line in self.todo(n, rest)]
            if not lines:
                return
            name = f"try-{self.name}-{part}"
            path = WORK / f"{name}.todo"
            path.write_text("\n".join(lines) + "\n")
            current, stopped = None, None
            for line in lab(self.name, f"{runner(self.name)} try {path}", name):
                if line.startswith("lab: FAILED"):
                    stopped = line.split(";")[0][13:]
                elif len(line.split()) > 2:
                    current = self.take(line)
            if current is not None:
                self.killed(current, stopped or "the machine stopped")
            elif lines == [line for n in numbers for line in self.todo(n, rest)]:
                fail(f"{self.name}: no results: {LOGS}/{name}.log")

    def try_each(self, numbers):
        names = {None: "the tests chosen for them", False: "the quickest tests", True: "the rest of the tests"}
        for rest, which in names.items():
            if rest is False:
                if all(n in self.log.killed for n in numbers):
                    return
                self.tests = cover(self.name, self.lanes, self.log)
            left = [n for n in numbers if self.todo(n, rest)]
            if left:
                say(f"{self.name}: {len(left)} mutants, {which}")
            together([lambda i=i: self.try_all(left[i::self.lanes], rest, i) for i in range(self.lanes)])


def in_worlds(names, mutants, log, where):
    """The mutants in these, and in where which of them came by; as far as they lived."""
    for name in names:
        left = [m for m in mutants if m.number not in log.killed and re.search(WORLDS[name][4], m.path)]
        if left:
            lanes = 1 if name == "inject" else int(os.environ.get("LANES", "2"))
            world = World(name, left, log, lanes)
            world.try_each([m.number for m in left])
            for m in left:
                if world.comes_by(m.number):
                    where.setdefault(m.number, []).append(name)


def equivalent():
    """Keys of mutants that change nothing that could be seen, and why."""
    found = {}
    path = ROOT / "lab/mutants/equivalent"
    why = ""
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("# "):
            why = line[2:]
        elif line.strip():
            found[line] = why
    return found


def first_tests():
    """What is in lab/mutants/first: (world, program, tests, key)"""
    head = None
    for line in (ROOT / "lab/mutants/first").read_text().splitlines():
        if line.startswith("= "):
            head = line[2:].split()
        elif head and line.strip():
            yield head[0], head[1], head[2:], line


def report(tried, same, log, where, seed):
    survivors = [m for m in tried if m.number not in log.killed]
    print(f"\nsurvivors ({len(survivors)}):")
    for m in survivors:
        print(f"  {m}\n      {m.key()}\n      came by in: {' '.join(where.get(m.number, ['nowhere']))}")
    killed = len(tried) - len(survivors)
    print(f"\n{len(tried)} mutants: {killed} killed, {len(same)} equivalent, {len(survivors)} survived (seed {seed})")
    for w in WORLDS:
        by = sum(log.killed.get(m.number, "").startswith(f"{w}: ") for m in tried)
        print(f"  {w}: {by} killed")
    print(f"{killed + len(same)} passed, {len(survivors)} failed")
    return len(survivors)


def main():
    count, seed = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1"
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    LOGS.mkdir(parents=True, exist_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    worlds = os.environ.get("WORLDS", " ".join(WORLDS)).split()
    known = equivalent()
    mutants = draw(count, seed)
    same = [m for m in mutants if m.key() in known]
    mutants = [m for m in mutants if m.key() not in known]
    in_kernel = [m for m in mutants if m.path.startswith(KERNEL_FILES)]
    say(f"{len(mutants)} mutants, {len(in_kernel)} of them in the kernel; {len(same)} more are known to change nothing")
    source = journal.of_files(ROOT / f for f in listed("virt", "arch", "include", "patches", "qemu", "guest"))
    only = re.sub(r"\W+", "-", os.environ.get("ONLY", ""))
    log = journal.Journal(WORK.parent / f"auto.{seed}.{count}{only and '.' + only}.log", source)
    where, tried = {}, []
    kernel_worlds = [w for w in worlds if w in WORLDS and w != "qemu"]
    if in_kernel and kernel_worlds:
        in_kernel = build_kernels(in_kernel, sorted({WORLDS[w][1] for w in kernel_worlds}, reverse=True), log)
        in_worlds(kernel_worlds, in_kernel, log, where)
        tried += in_kernel
    in_qemu = [m for m in mutants if m.path.startswith("qemu/")]
    if in_qemu and "qemu" in worlds:
        in_qemu = build_qemu(in_qemu, log)
        in_worlds(["qemu"], in_qemu, log, where)
        tried += in_qemu
    sys.exit(1 if report(tried, same, log, where, seed) else 0)


START = time.monotonic()
if __name__ == "__main__":
    main()
