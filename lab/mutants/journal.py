"""journal.py: what auto.py has found out, in a file, line by line as it comes, so that the
next run with the same draw goes on where this one was stopped.

A journal is of one source: with another one it begins anew. What passed counts as long as
the program is the same, so a survivor is tried again by tests that are new; which mutants a
test comes by is asked once.

    source HASH
    invalid NUMBER                                      the compiler does not take it
    test WORLD PROGRAM ok|bad MS TEST HIT...            a test without a mutant
    covered WORLD PROGRAM HASH                          all tests of a program were
    passed WORLD NUMBER PROGRAM HASH TESTS              these did not notice the mutant
    killed WORLD NUMBER BY...
"""
import hashlib
import threading
from pathlib import Path


def of_files(paths):
    """A hash of what is in these files."""
    h = hashlib.sha256()
    for p in sorted(paths):
        h.update(f"{p}\n".encode() + Path(p).read_bytes())
    return h.hexdigest()[:12]


class Journal:
    def __init__(self, path, source):
        self.path, self.lock = path, threading.Lock()
        self.invalid, self.killed, self.passed, self.tests, self.covered = set(), {}, set(), {}, set()
        lines = path.read_text().splitlines() if path.exists() else []
        if not lines or lines[0] != f"source {source}":
            if lines:
                path.replace(path.with_suffix(".old"))
            path.write_text(f"source {source}\n")
        else:
            for line in lines[1:]:
                self.take(line)

    def take(self, line):
        what, *w = line.split()
        if what == "invalid":
            self.invalid.add(int(w[0]))
        elif what == "test":
            self.tests[w[0], w[1], w[4]] = (w[2] == "ok", int(w[3]), frozenset(int(n) for n in w[5:]))
        elif what == "covered":
            self.covered.add(tuple(w))
        elif what == "passed":
            self.passed.add((w[0], int(w[1]), w[2], w[3], w[4]))
        elif what == "killed":
            self.killed[int(w[1])] = f"{w[0]}: {' '.join(w[2:])}"

    def write(self, line):
        """Put a line down, at once."""
        with self.lock:
            self.take(line)
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(line + "\n")
