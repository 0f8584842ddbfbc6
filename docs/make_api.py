"""Write docs/api.md from the docstrings of the public names: those in ``__all__`` of facelatent and its folders.

Sources are read, not imported: signatures come out as they were written, on every version of Python.

    python docs/make_api.py
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
#: In the order of the way from a photo to a picture.
MODULES = (
    "facelatent",
    "facelatent.errors",
    "facelatent.inversion",
    "facelatent.boundaries",
    "facelatent.domain_adapt",
    "facelatent.render",
    "facelatent.stylegan_ops",
    "facelatent.evaluation",
    "facelatent.studio",
    "facelatent.assets",
    "facelatent.cuda_kernels",
)
_INTRODUCTION = """\
# The Python API

Written by `make docs` from the docstrings; do not edit it here. A public name is one in `__all__` of `facelatent` or of
one of its folders; everything else may change. [From Python](python.md) has examples of what most people need.

Pictures as tensors are `[n, 3, H, W]`, RGB, float32 in [-1, 1]. Codes are `w [n, 512]` and W+ `ws [n, num_ws, 512]`.
Every error that a user can cause or mend is a `FacelatentError`.
"""
_SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")
_WIDTH = 100

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


class Public(NamedTuple):
    """A public name: the module where it is defined, its definition, and the comment above it (of constants)."""

    name: str
    module: str
    definition: Definition
    comment: str


def page() -> str:
    """The whole page."""
    documented: dict[str, str] = {}
    slugs: Counter[str] = Counter()
    parts = [_INTRODUCTION, "\n".join(f"- [{name}](#{anchor(name, slugs)})" for name in MODULES) + "\n"]
    for module in MODULES:
        parts.append(f"## {module}\n\n{_markdown(ast.get_docstring(_tree(module)) or '')}")
        contents = len(parts)
        elsewhere, new = [], []
        for public in _publics(module):
            identity = f"{public.module}.{public.name}"
            if identity in documented:
                elsewhere.append(f"`{public.name}`")
                continue
            documented[identity] = module
            new.append(public.name)
            parts.append(_entry(public))
        links = [f"[{name}](#{anchor(name, slugs)})" for name in new]
        parts.insert(contents, ", ".join(links) + ".\n")
        if elsewhere:
            parts.append(f"Described above, and also here: {', '.join(elsewhere)}.\n")
    return "\n".join(parts)


def _publics(module: str) -> Iterator[Public]:
    names = _all_of(module)
    for name in names:
        if name != "__version__":
            yield _found(module, name)


def _all_of(module: str) -> list[str]:
    """``__all__``; of a module without one its classes, in their order."""
    tree = _tree(module)
    for node in tree.body:
        if isinstance(node, ast.Assign) and _target(node) == "__all__":
            return list(ast.literal_eval(node.value))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def _found(module: str, name: str) -> Public:
    """The definition of a name, through the imports that hand it on."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            return _found(str(node.module), name)
    for node in _tree(module).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return Public(name, module, node, "")
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _target(node) == name:
            return Public(name, module, node, _comment_above(module, node.lineno))
    raise LookupError(f"{module} has no {name}")


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return _text(target)


def _comment_above(module: str, line: int) -> str:
    lines = _path(module).read_text(encoding="utf-8").splitlines()
    comments = []
    while line > 1 and lines[line - 2].startswith("#:"):
        line -= 1
        comments.insert(0, lines[line - 1].removeprefix("#:").strip())
    return " ".join(comments)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _entry(public: Public) -> str:
    node = public.definition
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return f"### {public.name}\n\n{_code(_constant(node))}\n{_markdown(public.comment)}"
    parts = [f"### {public.name}\n", _code(_signature(node)), _markdown(ast.get_docstring(node) or "")]
    methods = node.body if isinstance(node, ast.ClassDef) else []
    for method in methods:
        text = ast.get_docstring(method) if isinstance(method, ast.FunctionDef) else None
        if isinstance(method, ast.FunctionDef) and text and not method.name.startswith("_"):
            parts += [_code(_signature(method, public.name)), _markdown(text)]
    return "\n".join(parts)


def _text(node: ast.AST) -> str:
    """Code as this project writes it: with double quotes."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def _constant(node: ast.Assign | ast.AnnAssign) -> str:
    """``NAME = value``, without a value that would fill the page."""
    text = _text(node)
    return text if len(text) <= _WIDTH else f"{_target(node)} = ..."


def _signature(node: ast.ClassDef | ast.FunctionDef, owner: str = "") -> str:
    if isinstance(node, ast.ClassDef):
        bases = [_text(base) for base in node.bases]
        head = f"class {node.name}"
        if any("dataclass" in _text(one) for one in node.decorator_list):
            fields = [_text(one) for one in node.body if isinstance(one, ast.AnnAssign)]
            return _wrapped(head, [field for field in fields if not field.startswith("_")], "")
        made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if made and not any("Error" in base or "Exception" in base for base in bases):
            return _wrapped(head, _arguments(made[0])[1:], "")
        return f"{head}({', '.join(bases)})" if bases else head
    decorators = [_text(one) for one in node.decorator_list]
    returns = f" -> {_text(node.returns)}" if node.returns else ""
    if not owner:
        return _wrapped(node.name, _arguments(node), returns)
    if any("property" in one for one in decorators):
        return f"{owner}.{node.name}{returns.replace(' ->', ':', 1)}"
    arguments = _arguments(node)
    return _wrapped(f"{owner}.{node.name}", arguments if "staticmethod" in decorators else arguments[1:], returns)


def _arguments(node: ast.FunctionDef) -> list[str]:
    """Arguments one by one, as they were written."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    parts = [_argument(one, default) for one, default in zip(positional, defaults, strict=True)]
    if args.vararg:
        parts.append("*" + _argument(args.vararg, None))
    elif args.kwonlyargs:
        parts.append("*")
    parts += [_argument(one, default) for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return parts + (["**" + _argument(args.kwarg, None)] if args.kwarg else [])


def _argument(one: ast.arg, default: ast.expr | None) -> str:
    text = _text(one)
    return text if default is None else f"{text} = {_text(default)}"


def _wrapped(head: str, arguments: list[str], tail: str) -> str:
    """In one line if it fits, else an argument a line."""
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{head}(", *(f"    {one}," for one in arguments), f"){tail}"])


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _markdown(docstring: str) -> str:
    """A docstring as Markdown: sections become lists, examples code, and references plain names."""
    lines: list[str] = []
    blocks = re.split(rf"^({'|'.join(_SECTIONS)}):\n", docstring.strip() + "\n", flags=re.M)
    lines.append(_paragraphs(blocks[0]))
    for title, body in zip(blocks[1::2], blocks[2::2], strict=True):
        listed = re.match(r"(?:    .*\n|\n)*", body)
        inside = listed.group() if listed else ""
        lines.append(f"{title}:\n\n{_section(title, textwrap.dedent(inside))}")
        if after := body[len(inside) :].strip():
            lines.append(_paragraphs(after))
    return "\n".join(lines)


def _section(title: str, body: str) -> str:
    if title in ("Returns", "Yields"):
        return _paragraphs(body)
    items = re.split(r"\n(?=\S)", body.strip())
    rows = []
    for item in items:
        name, colon, text = re.sub(r"\s*\n\s*", " ", item).partition(": ")
        rows.append(f"- `{name}`: {_inline(text)}" if colon and len(name) < 80 else f"- {_inline(name + colon + text)}")
    return "\n".join(rows) + "\n"


def _paragraphs(text: str) -> str:
    parts = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if part.lstrip().startswith(">>>"):
            parts.append(f"```pycon\n{textwrap.dedent(part)}\n```")
        elif part.startswith("    "):
            parts.append(part)
        else:
            parts.append(_inline(part))
    return "\n\n".join(parts) + "\n"


def _inline(text: str) -> str:
    named = re.sub(r":\w+:`~?([^`]+)`", lambda found: f"`{_last(found)}`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", named)


def _last(found: re.Match[str]) -> str:
    """``~a.b.c`` is shown as ``c``, ``a.b.c`` as it is."""
    return found.group(1).rsplit(".", 1)[-1] if ":`~" in found.group() else found.group(1)


def anchor(heading: str, seen: Counter[str]) -> str:
    """The anchor that a code host gives a heading; those that were ``seen`` before get a number."""
    plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    seen[plain] += 1
    return plain if seen[plain] == 1 else f"{plain}-{seen[plain] - 1}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
