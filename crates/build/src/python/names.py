# Reads one module of a function and says, as JSON, which names it has at its top and what each of them looks like.
# Runs nothing of it. Started with `-I`, so that neither the folder nor the user's settings take part.

import ast
import json
import sys
import sysconfig

WSGI = ["environ", "start_response"]
ASGI = ["scope", "receive", "send"]


def shape(node):
    """`web` for a function with the parameters of a WSGI or ASGI application, `event` for another one."""
    names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
    return "web" if names in (WSGI, ASGI) else "event"


def targets(node):
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, (ast.Tuple, ast.List)):
        for inner in node.elts:
            yield from targets(inner)
    elif isinstance(node, ast.Starred):
        yield from targets(node.value)


def collect(body, found):
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = shape(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = "any"
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for name in targets(target):
                    found[name] = "any"
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            for name in targets(node.target):
                found[name] = "any"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                found[(alias.asname or alias.name).split(".")[0]] = "any"
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
                collect(getattr(node, part, []), found)
        for handler in getattr(node, "handlers", []):
            collect(handler.body, found)


def main():
    said = {"tag": f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}", "names": {}}
    try:
        with open(sys.argv[1], "rb") as file:
            collect(ast.parse(file.read()).body, said["names"])
    except SyntaxError as error:
        said["error"] = {"message": error.msg, "line": error.lineno or 1, "column": error.offset}
    except ValueError as error:
        said["error"] = {"message": str(error), "line": 1, "column": None}
    print(json.dumps(said))


main()
