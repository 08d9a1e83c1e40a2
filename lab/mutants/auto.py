#!/usr/bin/env python3
"""auto.py: break our C files in small ways, hundreds of them, and see the tests notice.

    auto.py COUNT [SEED]        that many, drawn by chance from all files; all: every one
    ONLY=REGEX                  only those whose description matches, "file:line kind: ..."
    WORLDS="amd qemu"           only there

All mutants are in one build (sites.py), each turned on by its number. First the tests
are run without any, one by one, to see which pass and which mutants they come by; then
for each mutant the tests that do, the quickest first, until one fails, or the kernel
complains. Mutants that none of them notices have survived, unless lab/mutants/equivalent
says why nothing can.
"""
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import sites

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("BUILD", ROOT / "build")).resolve()
WORK = BUILD / "mutants/auto"
LOGS = BUILD / "log/mutants"
KERNEL_FILES = ("virt", "arch")
QEMU_FILES = ("qemu/backends", "qemu/hw", "qemu/accel")

# Where mutants are tried, one after the other: the lab, the kernel, the modules' parameters,
# the programs, and which files it is the place for. Of other files it gets the mutants that
# no world before it came by. A test that takes longer than SLOWEST seconds is left out.
SLOWEST = 40
# So many seconds of each program's tests come before the rest of them
QUICK = 10
EVERYTHING = ["test", "abi_test", "access_test", "dirty_test", "doorbell_test", "matrix_test", "miss_test",
              "mmu_test", "race_test", "revoke_test", "shapes_test", "stall_test"]
WORLDS = {
    "amd": ("amd", "light", "", EVERYTHING, "."),
    "shadow": ("amd", "light", "kvm-amd.npt=0", ["mmu_test", "test", "revoke_test", "dirty_test"], "x86/kvm/mmu/vm2vm.c"),
    "legacy": ("amd", "light", "kvm.tdp_mmu=0", ["mmu_test", "test", "revoke_test", "dirty_test"], "x86/kvm/mmu/vm2vm.c"),
    "emulated": ("amd", "light", "kvm.force_emulation_prefix=1", ["access_test", "dirty_test"], "access|dirty"),
    "intel": ("intel", "light", "", ["test", "view_test", "revoke_test", "doorbell_test"], "view|vmx|prove"),
    "inject": ("amd", "debug", "", ["inject_test"], "."),
    "qemu": ("amd", "base", "", ["link_peer_test.py", "link_test.py"], "qemu/"),
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


# QEMU's needs to know what lab/vms/links.sh knows
RUNNER = {"qemu": f"env QEMU={WORK}/qemu/build/qemu-system-x86_64 BUILD={BUILD} L2_KERNEL={BUILD}/base/arch/x86/boot/bzImage "
                  f"VMS_LOGS=/tmp/vms PYTHONDONTWRITEBYTECODE=1 {ROOT}/lab/mutants/runner.sh"}


def say(text):
    print(f"[{time.monotonic() - START:4.0f}s] {text}", flush=True)


def bash(script, check=True, **how):
    """Run a piece of shell with the lab's functions."""
    return subprocess.run(["bash", "-c", f'. "{ROOT}/lab/lib.sh"; work={WORK}; . "{ROOT}/lab/mutants/work.sh"; {script}'],
                          check=check, **how)


def our_files(*under):
    listed = subprocess.run(["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "--", *under],
                            check=True, capture_output=True, text=True).stdout.split()
    return sorted({f for f in listed if f.endswith(".c") and (ROOT / f).is_file() and "stub" not in f})


def draw(count, seed):
    """The mutants to try. From each file a share that is in proportion, two at least."""
    by_file = {}
    for f in our_files(*KERNEL_FILES, *QEMU_FILES):
        by_file[f] = sites.without_overlaps(sites.find(f, (ROOT / f).read_text()))
    pattern = os.environ.get("ONLY", "")
    everything = [m for ms in by_file.values() for m in ms if re.search(pattern, str(m))]
    if count == "all" or int(count) >= len(everything):
        chosen = everything
    else:
        chance = random.Random(seed)
        chosen = [m for ms in by_file.values()
                  for m in chance.sample([m for m in ms if re.search(pattern, str(m))] or [], k=min(2, len(ms)))
                  ] if not pattern else []
        rest = [m for m in everything if m not in chosen]
        chosen = chosen[:int(count)]
        chosen += chance.sample(rest, int(count) - len(chosen))
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


def build_until_it_works(what, mutants, write, build):
    """Leave out the mutants on lines that the compiler does not take, until it does."""
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
        mutants = left


def build_kernels(mutants, kernels):
    def write(ms):
        place(WORK / "linux", "", ms, "vm2vm_mutant_hit[]", "#include <linux/moduleparam.h>\n" + KERNEL_SUPPORT)

    def build():
        for k in kernels:
            log = LOGS / f"build-{k}.log"
            if bash(f"build {k} {log} amd intel", check=False).returncode:
                return log.read_text()
        return None

    for k in kernels:
        bash(f"prepare {k}")
    say(f"building KVM with {len(mutants)} mutants ({' '.join(kernels)})")
    return build_until_it_works("KVM", mutants, write, build)


def build_qemu(mutants):
    def build():
        log = LOGS / "build-qemu.log"
        return None if not bash(f"build_qemu {log}", check=False).returncode else log.read_text()

    bash("prepare_qemu; lab/build/guest.sh", cwd=ROOT)
    say(f"building QEMU with {len(mutants)} mutants")
    return build_until_it_works("QEMU", mutants,
                                lambda ms: place(WORK / "qemu/src", "qemu/", ms, "*vm2vm_mutant_hit", QEMU_SUPPORT), build)


def lab(world, command, name, timeout=3600):
    """Run the runner in a lab; its lines, as they come, and how it ended."""
    where, kernel, params, _, _ = WORLDS[world]
    modules = BUILD if world == "qemu" else WORK
    env = dict(os.environ, LAB=where, KERNEL=kernel, PARAMS=params, MODULES=str(modules / kernel), BUILD=str(BUILD), CMD=command, TIMEOUT=str(timeout), LOG=str(LOGS / f"console-{name}.log"))
    with open(LOGS / f"{name}.log", "w", encoding="utf-8", errors="replace") as log, subprocess.Popen(
            [ROOT / "lab/machine/run.sh"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace") as p:
        for line in p.stdout:
            log.write(line)
            log.flush()
            if line.startswith("@@ ") or line.startswith("lab: FAILED"):
                yield line.strip()


def programs(world):
    if world == "qemu":
        return [f"{ROOT}/lab/vms/{p}" for p in WORLDS[world][3]]
    return [f"{BUILD}/selftests/vm2vm_{p}" for p in WORLDS[world][3]]


def cover(world, lanes):
    """(program, test) -> (milliseconds, mutants it comes by), for tests that pass."""
    tests = {}
    runner = RUNNER.get(world, f"{ROOT}/lab/mutants/runner.sh")

    def some(which, part):
        for line in lab(world, f"{runner} cover {SLOWEST} {' '.join(which)}", f"cover-{world}-{part}"):
            w = line.split()
            if line.startswith("lab: FAILED"):
                say(f"{world}: without a mutant: {line}")
                os._exit(1)
            if w[1] == "test" and w[2] == "ok":
                tests[w[4], w[5]] = (int(w[3]), [int(n) for n in w[6:]])
            elif w[1] == "test":
                say(f"{world}: left out, as it fails or takes too long without a mutant: {Path(w[4]).name} {w[5]}")

    say(f"{world}: running the tests one by one, without a mutant")
    ps = programs(world)
    together([lambda i=i: some(ps[i::lanes], i) for i in range(min(lanes, len(ps)))])
    say(f"{world}: {len(tests)} tests, {sum(t[0] for t in tests.values()) // 1000} s of them")
    return tests


def together(functions):
    threads = [threading.Thread(target=f) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def todo_for(tests, number, rest):
    """Lines for the runner: the programs' tests that come by a mutant, the quickest program
    first; of each program the quickest ones for a start, or the rest of them."""
    by_program = {}
    for (program, test), (ms, hits) in tests.items():
        if number in hits:
            by_program.setdefault(program, []).append((ms, test))
    lines = []
    for program, ts in sorted(by_program.items(), key=lambda p: sum(t[0] for t in p[1])):
        ts.sort()
        quick = 1
        while quick < len(ts) and sum(t[0] for t in ts[:quick + 1]) < QUICK * 1000:
            quick += 1
        ts = ts[quick:] if rest else ts[:quick]
        # One program takes a single name
        for part in [[t] for t in ts[:12]] if program.endswith("matrix_test") else [ts]:
            if part:
                lines.append(f"{number} {20 + sum(t[0] for t in part) * 6 // 1000} {program} {' '.join(t[1] for t in part)}")
    return lines


class Verdicts:
    def __init__(self):
        self.lock = threading.Lock()
        self.killed, self.survived = {}, {}

    def set(self, world, number, by):
        with self.lock:
            if by:
                self.killed[number] = f"{world}: {by}"
                self.survived.pop(number, None)
            else:
                self.survived.setdefault(number, []).append(world)


def try_all(world, tests, rest, numbers, verdicts, mutants, part=0):
    """The mutants in a lab, one after the other; anew when the kernel has died of one."""
    left = [n for n in numbers if todo_for(tests, n, rest)]
    by_number = {m.number: m for m in mutants}
    while left:
        name = f"try-{world}-{part}"
        path = WORK / f"{name}.todo"
        path.write_text("\n".join(line for n in left for line in todo_for(tests, n, rest)) + "\n")
        current, done, stopped = None, set(), None
        for line in lab(world, f"{RUNNER.get(world, str(ROOT / 'lab/mutants/runner.sh'))} try {path}", name):
            w = line.split(maxsplit=3)
            if line.startswith("lab: FAILED"):
                stopped = line.split(";")[0][13:]
            elif w[1] == "begin":
                current = int(w[2])
            elif w[1] in ("killed", "survived"):
                done.add(int(w[2]))
                verdicts.set(world, int(w[2]), w[3] if w[1] == "killed" else None)
                say(f"{world}: {w[1]}: {by_number[int(w[2])]}" + (f" [{w[3]}]" if w[1] == "killed" else ""))
                current = None
        if current is not None:
            done.add(current)
            verdicts.set(world, current, stopped or "the machine stopped")
            say(f"{world}: killed: {by_number[current]} [{stopped}]")
        elif not done:
            sys.exit(f"{world}: no results: {LOGS}/{name}.log")
        left = [n for n in left if n not in done]


def in_world(world, mutants, verdicts, lanes):
    if all(m.number in verdicts.killed for m in mutants):
        return
    tests = cover(world, lanes)
    for rest in (False, True):
        numbers = [m.number for m in mutants if m.number not in verdicts.killed and
                   (re.search(WORLDS[world][4], m.path) or set(verdicts.survived.get(m.number, [])) <= {world})]
        together([lambda i=i: try_all(world, tests, rest, numbers[i::lanes], verdicts, mutants, i) for i in range(lanes)])


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


def main():
    count, seed = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1"
    LOGS.mkdir(parents=True, exist_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    worlds = os.environ.get("WORLDS", " ".join(WORLDS)).split()
    known = equivalent()
    mutants = draw(count, seed)
    same = [m for m in mutants if m.key() in known]
    mutants = [m for m in mutants if m.key() not in known]
    in_kernel = [m for m in mutants if m.path.startswith(KERNEL_FILES)]
    say(f"{len(mutants)} mutants, {len(in_kernel)} of them in the kernel; {len(same)} more are known to change nothing")
    verdicts = Verdicts()
    kernel_worlds = [w for w in worlds if w in WORLDS and w != "qemu"]
    if in_kernel and kernel_worlds:
        kernels = sorted({WORLDS[w][1] for w in kernel_worlds}, reverse=True)
        in_kernel = build_kernels(in_kernel, kernels)
        for w in kernel_worlds:
            in_world(w, in_kernel, verdicts, 1 if w == "inject" else 2)
    in_qemu = [m for m in mutants if m.path.startswith("qemu/")]
    if in_qemu and "qemu" in worlds:
        in_qemu = build_qemu(in_qemu)
        in_world("qemu", in_qemu, verdicts, 2)
    tried = (in_kernel if kernel_worlds else []) + (in_qemu if "qemu" in worlds else [])
    report = {"seed": seed, "killed": {}, "survived": [], "equivalent": [m.key() for m in same]}
    for m in tried:
        if m.number in verdicts.killed:
            report["killed"][m.key()] = verdicts.killed[m.number]
        else:
            report["survived"].append(m.key())
    (WORK / f"report-{worlds[0]}.json").write_text(json.dumps(report, indent=1))
    print(f"\nsurvivors ({len(report['survived'])}):")
    for m in tried:
        if m.number not in verdicts.killed:
            print(f"  {m}\n      {m.key()}\n      came by in: {' '.join(verdicts.survived.get(m.number, ['nowhere']))}")
    print(f"\n{len(tried)} mutants: {len(report['killed'])} killed, {len(same)} equivalent, {len(report['survived'])} survived (seed {seed})")
    print(f"{len(report['killed']) + len(same)} passed, {len(report['survived'])} failed")
    sys.exit(1 if report["survived"] else 0)


START = time.monotonic()
if __name__ == "__main__":
    main()
