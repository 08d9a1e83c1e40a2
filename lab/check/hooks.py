#!/usr/bin/env python3
"""hooks.py: each file of ours is reached by exactly one hook of the series.

A .c file by one added Makefile line that names its object or program, or by a
Makefile of ours, a Kconfig by one added source line, a header by an #include of a
file of ours or of one patch, a Makefile of ours by one added include line.  The hooks themselves stay small: they add, and seldom remove.
"""
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KVM = "tools/testing/selftests/kvm"
DIRS = ("virt", "arch", "include", "tools/testing/selftests")

listed = subprocess.run(["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "--", *DIRS],
                        check=True, capture_output=True, text=True).stdout.split()
ours = sorted({f for f in listed if (ROOT / f).is_file()})

added, removed, files = [], 0, set()        # added: (patch, path, line)
for patch in sorted((ROOT / "patches/linux-6.12").glob("*.patch")):
    path, hunk = None, False
    for line in patch.read_text().splitlines():
        if line.startswith("diff --git "):
            path, hunk = line.split(" b/")[-1], False
            files.add(path)
        elif line.startswith("@@"):
            hunk = True
        elif line == "-- ":
            hunk = False
        elif hunk and line.startswith("+"):
            added.append((patch.name, path, line[1:]))
        elif hunk and line.startswith("-"):
            removed += 1


def wildcards(makefile):
    """What a Makefile of ours takes, as paths of the tree."""
    text = (ROOT / makefile).read_text()
    base = KVM if makefile.startswith(KVM) else os.path.dirname(makefile)
    return [f"{base}/{w}" for w in re.findall(r"\$\(wildcard ([^$()]*)\)", text)] + \
           [f"{base}/{w}.c" for w in re.findall(r"\bvm2vm_\w+(?![\w*.])", text)]


def hooks(path):
    """The lines that bring in the file at path: (where, line)."""
    stem, suffix = os.path.splitext(path)
    name = os.path.basename(path)
    if name.startswith("Kconfig"):
        return [(f, t) for _, f, t in added if re.match(r'\s*source\s+"%s"' % re.escape(path), t)]
    if suffix == ".mk":
        return [(f, t) for _, f, t in added
                if t.startswith("include ") and os.path.join(os.path.dirname(f), t.split()[1]) == path]
    if suffix in (".c", ".S") and path.startswith(KVM):
        takers = [m for m in ours if m.endswith(".mk") and any(fnmatch(path, w) and path.count("/") == w.count("/")
                                                               for w in wildcards(m))]
        if takers:
            return [(takers[0], "a wildcard or a name")]
    if suffix in (".c", ".S"):
        lines = [(f, t) for _, f, t in added if re.search(r"(Makefile|Kbuild)", os.path.basename(f))]
        found = []
        for f, text in lines:
            # kbuild names objects relative to the directory of its Makefile; KVM's common
            # part is built from the architecture's directory, through $(KVM)
            words = text.replace("$(KVM)", "virt/kvm").split()
            here = os.path.dirname(f)
            names = {os.path.normpath(os.path.join(here, w)) for w in words} | set(words)
            wanted = {stem + ".o", stem + ".c"}
            if names & wanted:
                found.append((f, text))
        return found
    if suffix == ".h":
        # files of ours include it, or else one hook
        what = re.compile(r'\s*#\s*include\s+["<]([^">]*)[">]')
        found, users = [], []
        for f, text in [(f, t) for _, f, t in added]:
            m = what.match(text)
            if m and ("/" + path).endswith("/" + os.path.normpath(m[1]).lstrip("./")):
                found.append((f, text))
        for f in ours:
            if f != path and f.endswith((".c", ".h", ".S")):
                for text in (ROOT / f).read_text().splitlines():
                    m = what.match(text)
                    if m and os.path.basename(m[1]) == name:
                        users.append((f, text))
        return users[:1] or found
    return [("", "not code")]


bad = 0
for f in ours:
    found = hooks(f)
    if len(found) != 1:
        bad += 1
        print(f"hooks: {f}: reached by {len(found)} hooks, must be 1", file=sys.stderr)
        for where, text in found:
            print(f"    {where}: {text}", file=sys.stderr)

print(f"hooks: {len(ours)} files of ours; patches add {len(added)} lines and remove {removed}, in {len(files)} files")
if len(added) > 200 or len(files) > 15:
    print("hooks: warning: the budget is 200 added lines in 15 files", file=sys.stderr)
sys.exit(1 if bad else 0)
