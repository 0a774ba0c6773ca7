"""One file out of several modules: code of ours that runs where this package is not installed.

The file is made from the modules' own source when it is written, so there is no second copy to maintain. It holds a
module and, of every module of this package that it imports, the definitions that it reaches; imports from this package
go, the others move to the top. Definitions that share a name are refused, so the result means what the sources mean.

jaxtyping's annotations become ``typing.Annotated``, which says the same and needs no jaxtyping.
"""

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PACKAGE = "unirae"


def standalone_source(module: str, *, header: str) -> str:
    """The source of ``module`` and all that it reaches inside this package, as one module.

    Args:
        header: the new module's docstring.

    Raises:
        ValueError: If two reached definitions share a name, or an import cannot be resolved this way.
    """
    collected = _Collection()
    root = collected.module(module)
    for name in root.definitions:
        collected.reach(root, name)
    return collected.write(root, header)


@dataclass
class _Module:
    """A source file: its top-level definitions and imports by name, and which definitions are reached."""

    name: str
    text: str
    reached: set[str] = field(default_factory=set)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        return {name: statement for statement in self.tree.body for name in _defined(statement)}

    @cached_property
    def imports(self) -> dict[str, tuple[str, str | None]]:
        """Local name → (module, name in it); None for the module itself."""
        found: dict[str, tuple[str, str | None]] = {}
        for statement in self.tree.body:
            if isinstance(statement, ast.Import):
                found |= {alias.asname or alias.name: (alias.name, None) for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom):
                source = statement.module or ""
                found |= {alias.asname or alias.name: (source, alias.name) for alias in statement.names}
        return found

    def source(self) -> str:
        """The reached statements as they are written, in their order."""
        parts = []
        for statement, after in zip(self.tree.body, [*self.tree.body[1:], None], strict=True):
            if not self.reached & set(_defined(statement)):
                continue
            decorators = getattr(statement, "decorator_list", [])
            first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
            last = after if after is not None and _is_text(after) else statement
            parts.append("\n".join(self.text.splitlines()[first - 1 : last.end_lineno]))
        return "\n\n\n".join(parts)


class _Collection:
    """The modules that were reached, dependencies first, and what they need from elsewhere."""

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}
        self._owners: dict[str, str] = {}
        self._imports: set[tuple[str, str | None, str]] = set()
        self._aliases: dict[str, dict[str, str]] = {}

    def module(self, name: str) -> _Module:
        """A module by its name, read once."""
        if name not in self._modules:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                raise ValueError(f"no source of {name}")
            self._modules[name] = _Module(name, Path(spec.origin).read_text())
        return self._modules[name]

    def reach(self, module: _Module, name: str) -> None:
        """Mark the definition of ``name`` in ``module``, and all that it needs; skips built-in and local names."""
        if name in module.definitions:
            statement = module.definitions[name]
            if name not in module.reached:
                self._own(name, module.name)
                module.reached.update(_defined(statement))
                for used in sorted(_names(statement, module.name)):
                    self.reach(module, used)
        elif name in module.imports:
            self._follow(module, name, *module.imports[name])

    def _follow(self, module: _Module, name: str, source: str, original: str | None) -> None:
        if source.split(".")[0] != PACKAGE:
            self._own(name, f"{source}.{original}")
            self._imports.add((source, original, name))
            return
        other = self.module(source)
        if original is None or original not in other.definitions:
            raise ValueError(f"{module.name} imports {name} from {source}, which does not define it")
        self.reach(other, original)
        if original != name:
            self._own(name, f"{module.name} (as {original})")
            self._aliases.setdefault(module.name, {})[name] = original

    def _own(self, name: str, owner: str) -> None:
        if self._owners.setdefault(name, owner) != owner:
            raise ValueError(f"{name} means one thing in {self._owners[name]} and another in {owner}")

    def write(self, root: _Module, header: str) -> str:
        """Write the source of the whole module."""
        parts = [f'"""{header}"""', _import_block(self._imports)]
        for module in self._in_order(root, []):
            summary = (ast.get_docstring(module.tree) or "").splitlines()
            parts.append(f"# {module.name}: {summary[0] if summary else ''}")
            aliases = self._aliases.get(module.name, {})
            if aliases:
                parts.append("\n".join(f"{name} = {original}" for name, original in aliases.items()))
            parts.append(module.source())
        return "\n\n\n".join(parts) + "\n"

    def _in_order(self, module: _Module, before: list[_Module]) -> list[_Module]:
        """The reached modules, each after those that it imports."""
        for source, _ in module.imports.values():
            other = self._modules.get(source)
            if other is not None and other.reached and other not in before:
                self._in_order(other, before)
        before.append(module)
        return before


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement gives a meaning to."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _names(statement: ast.stmt, module: str) -> set[str]:
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            raise ValueError(f"{module} imports {node.module} inside a function")
    return names


def _is_text(statement: ast.stmt) -> bool:
    """Say whether a statement is a string by itself, which documents the assignment before it."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _import_block(imports: set[tuple[str, str | None, str]]) -> str:
    """One line for each module."""
    lines, names = [], {}
    for source, original, name in sorted(imports, key=str):
        if original is None:
            lines.append(f"import {source}" + ("" if source == name else f" as {name}"))
        elif source == "jaxtyping":
            names.setdefault("typing", []).append(f"Annotated as {name}")
        else:
            names.setdefault(source, []).append(original + ("" if original == name else f" as {name}"))
    lines += [f"from {source} import {', '.join(found)}" for source, found in sorted(names.items())]
    return "\n".join(lines)
