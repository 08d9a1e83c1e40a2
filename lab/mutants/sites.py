"""sites.py: where a C file can be broken in a small way, and the file with all of these
ways in it, each to be turned on by its number.

A mutant is an expression or a statement with another one beside it:

	if (a && b)		if (VM2VM_MUTANT(7) ? !!(b) : (a && b))
	kfree(m);		{ if (!VM2VM_MUTANT(8)) kfree(m); }

so one build has hundreds of them, and none costs more than a comparison. Lines keep
their numbers.
"""
import re

TOKEN = re.compile(r"""
    (?P<skip>\s+|//[^\n]*|/\*.*?\*/)
  | (?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)
  | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<word>[A-Za-z_]\w*)
  | (?P<number>0[xX][0-9a-fA-F]+[uUlL]*|\d+[uUlL]*)
  | (?P<op>->|\+\+|--|<<=|>>=|<=|>=|==|!=|&&|\|\||<<|>>|[-+*/%&|^]=|\.\.\.|.)
""", re.X | re.S | re.M)

ASSIGN = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
# What ends an operand: of ||, of && and of a comparison
LOW = {";", ",", "?", ":", "{", "}", "return", "case"} | ASSIGN
OF_OR = LOW
OF_AND = LOW | {"||"}
OF_COMPARISON = OF_AND | {"&&", "==", "!=", "<", ">", "<=", ">=", "&", "|", "^", "!"}
ORDER = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}

# Calls that are statements and that something must notice the lack of: they lock, order,
# flush, wake, wait, release, log, or tell.
CALLS = re.compile(r"""lock|unlock|barrier|\bsmp_mb|flush|sync|free|put|drop|unref|release|destroy|close|cleanup|
    remove|del|erase|\bend|begin|wake|notify|signal|wait|cancel|zap|mark|dirty|unmap|revoke|kick|complete|
    enable|disable|reset|clear|set|add|insert|init|replace|assign|update|reject|disconnect|
    unregister|register|inc|dec|sub|report|error""", re.X)
# Checks of the code itself, what only tells a person, and what only x86 does without.
NEVER = re.compile(r"""^(lockdep_\w*|might_\w*|cond_resched\w*|WARN\w*|BUILD_BUG\w*|KVM_BUG\w*|VM_WARN\w*|trace_\w*|pr_\w*|
    smp_rmb|smp_wmb|smp_mb__\w*|barrier|kunmap_local|mutex_destroy|EXPORT_\w*|MODULE_\w*|assert|g_assert\w*|g_autoptr|g_autofree|
    object_class_property_set_description|device_class_set_\w*|set_bit_categories|warn_report\w*|
    object_class_property_add\w*|rcu_lockdep\w*|QLIST_HEAD|sizeof|offsetof|container_of|typeof|alignof)$""", re.X)


class Token:
    def __init__(self, kind, text, start, line):
        self.kind, self.text, self.start, self.line = kind, text, start, line
        self.end = start + len(text)


class Mutant:
    """Instead of source[start:end] there is text; kind says in a word what that is."""
    def __init__(self, path, function, kind, line, start, end, text, source, boolean=False, statement=False):
        self.path, self.function, self.kind, self.line = path, function, kind, line
        self.start, self.end, self.text = start, end, " ".join(text.split())
        self.old = " ".join(source[start:end].split())
        self.boolean, self.statement = boolean, statement
        self.number = self.nth = 0

    def key(self):
        """The same as long as the code is, wherever it moves to."""
        return f"{self.path} {self.function} {self.kind} {self.nth} {self.old}"

    def __str__(self):
        new = "gone" if self.statement else self.text
        return f"{self.path}:{self.line} {self.function}() {self.kind}: {self.old} -> {new}"


def tokenize(source):
    tokens, line, at = [], 1, 0
    for m in TOKEN.finditer(source):
        kind = m.lastgroup
        if kind not in ("skip", "directive"):
            tokens.append(Token(kind, m.group(), m.start(), line))
        line += m.group().count("\n")
        at = m.end()
    assert at == len(source)
    return tokens


def partners(tokens):
    """The index of each bracket's other one."""
    stack, other = [], {}
    for i, t in enumerate(tokens):
        if t.kind == "op" and t.text in "([{":
            stack.append(i)
        elif t.kind == "op" and t.text in ")]}" and stack:
            j = stack.pop()
            other[i], other[j] = j, i
    return other


def functions(tokens, other):
    """(name, first token inside, last) of each function's body."""
    i, found = 0, []
    while i < len(tokens):
        t = tokens[i]
        if t.text == "{" and t.kind == "op":
            if i and tokens[i - 1].text == ")":
                j = other[i - 1]
                # past __releases(x) and the like
                while j >= 2 and tokens[j - 1].kind == "word" and tokens[j - 2].text == ")":
                    j = other[j - 2]
                found.append((tokens[j - 1].text, i + 1, other[i] - 1))
            i = other[i]
        i += 1
    return found


class Finder:
    def __init__(self, path, source):
        self.path, self.source = path, source
        self.tokens = tokenize(source)
        self.other = partners(self.tokens)
        self.found = []

    def text(self, first, last):
        return self.source[self.tokens[first].start:self.tokens[last].end]

    def add(self, kind, first, last, text, **how):
        t, end = self.tokens[first], self.tokens[last].end
        self.found.append(Mutant(self.path, self.function, kind, t.line, t.start, end, text, self.source, **how))

    def extent(self, i, stop, step):
        """The furthest token of the operand beside i, in that direction."""
        j = i + step
        opening, closing = ("(", "[", "{"), (")", "]", "}")
        if step < 0:
            opening, closing = closing, opening
        while True:
            t = self.tokens[j].text
            if t in opening:
                j = self.other[j]
            elif t in closing or t in stop:
                return j - step
            # a cast or a unary operator does not end it, going left
            j += step

    def conditions(self, i):
        """if (c), while (c): the other way round; and never."""
        word = self.tokens[i].text
        first, last = i + 2, self.other[i + 1] - 1
        if last < first:
            return
        c = self.text(first, last)
        self.add("negated", first, last, f"!({c})", boolean=True)
        if word == "if" and c not in ("0", "1"):
            self.add("never", first, last, "0", boolean=True)

    def chain(self, i, op, stop):
        """One operand of a && b && c less, each in turn; i is the first such operator."""
        first, operands = self.extent(i, stop, -1), []
        at = first
        while True:
            end = self.extent(at - 1, stop | {op}, 1)
            operands.append((at, end))
            if self.tokens[end + 1].text != op:
                break
            at = end + 2
        for k in range(len(operands)):
            rest = [f"({self.text(*o)})" for n, o in enumerate(operands) if n != k]
            self.add("operand", operands[0][0], operands[-1][1],
                     f" {op} ".join(rest), boolean=True)
        return operands[-1][1]

    def comparison(self, i):
        first, last = self.extent(i, OF_COMPARISON, -1), self.extent(i, OF_COMPARISON, 1)
        if first < i < last:
            self.add("bound", first, last, f"{self.text(first, i - 1)} {ORDER[self.tokens[i].text]} {self.text(i + 1, last)}",
                     boolean=True)

    def number(self, i):
        t, before = self.tokens[i], self.tokens[i - 1].text
        value = int(re.sub("[uUlL]", "", t.text), 0)
        if value == 1 and before in ("+", "-"):
            self.add("one", i, i, "0")
        elif value > 1 and before not in ("[", "case", "."):
            self.add("halved", i, i, str(value // 2))

    def call(self, i):
        """A call that is a statement: it is gone."""
        close = self.other[i + 1]
        name = self.tokens[i].text
        if self.tokens[close + 1].text == ";" and CALLS.search(name) and self.tokens[i - 1].text in (";", "{", "}", ")", ":", "else"):
            self.add("gone", i, close + 1, "", statement=True)

    def error(self, i):
        """return -EINVAL, r = -EINVAL: 0."""
        if self.tokens[i - 1].text in ASSIGN | {"return", "?", ":"} and re.match(r"E[A-Z0-9]+$", self.tokens[i + 1].text):
            self.add("swallowed", i, i + 1, "0")

    def body(self, first, last):
        done = {"&&": -1, "||": -1}
        skip = -1
        for i in range(first, last + 1):
            t = self.tokens[i]
            following = self.tokens[i + 1].text
            if i <= skip:
                continue
            if t.kind == "word" and following == "(":
                if NEVER.match(t.text):
                    skip = self.other[i + 1]
                elif t.text in ("if", "while"):
                    self.conditions(i)
                elif t.text not in ("for", "switch", "return"):
                    self.call(i)
            elif t.kind == "number":
                self.number(i)
            elif t.text in ("&&", "||") and i > done[t.text]:
                end = self.chain(i, t.text, OF_AND if t.text == "&&" else OF_OR)
                done[t.text] = max(done[t.text], self.last_at_depth(i, end))
            elif t.kind == "op" and t.text in ORDER:
                self.comparison(i)
            elif t.text == "-" and self.tokens[i + 1].kind == "word":
                self.error(i)

    def last_at_depth(self, i, end):
        """The last operator of i's chain before end, not one within brackets."""
        j, last = i, i
        while j <= end:
            if self.tokens[j].text in "([{" and self.tokens[j].kind == "op":
                j = self.other[j]
            elif self.tokens[j].text == self.tokens[i].text:
                last = j
            j += 1
        return last

    def all(self):
        for self.function, first, last in functions(self.tokens, self.other):
            self.body(first, last)
        seen = {}
        for m in self.found:
            key = m.key()
            m.nth = seen[key] = seen.get(key, -1) + 1
        return self.found


def find(path, source):
    """All mutants of a file."""
    return Finder(path, source).all()


def instrument(source, mutants):
    """The source with these mutants of it, which have their numbers."""
    spans = {}
    for m in mutants:
        spans.setdefault((m.start, -m.end), []).append(m)
    order = sorted(spans)

    def render(start, end, todo):
        """source[start:end] with the spans of todo, all of which are within."""
        out, at = [], start
        while todo:
            (s, minus_e), e = todo[0], -todo[0][1]
            inner = [k for k in todo[1:] if k[0] < e]
            assert s >= at and e <= end, (source[s:e], "overlaps")
            out.append(source[at:s])
            out.append(choose(spans[s, minus_e], render(s, e, inner)))
            at, todo = e, todo[1 + len(inner):]
        out.append(source[at:end])
        return "".join(out)

    def choose(ms, original):
        if ms[0].statement:
            # In braces, for there may be an else after it that is another one's
            return "{ " + "".join(f"if (!VM2VM_MUTANT({m.number})) " for m in ms) + original + " }"
        if any(m.boolean for m in ms):
            original = f"!!({original})"
        return "(" + "".join(f"VM2VM_MUTANT({m.number}) ? ({m.text if not m.boolean else '!!(' + m.text + ')'}) : "
                             for m in ms) + f"({original}))"

    return render(0, len(source), order)


def without_overlaps(mutants):
    """Less those that cut another one's span in two, as a comparison in a cast may."""
    kept = []
    for m in sorted(mutants, key=lambda m: (m.start, -m.end)):
        if all(m.start >= k.end or m.end <= k.start or (m.start >= k.start and m.end <= k.end) or
               (k.start >= m.start and k.end <= m.end) for k in kept):
            kept.append(m)
    return kept
