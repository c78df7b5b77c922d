"""Every Python block of the pages is type-checked, those that do not run included: as one module a page."""

import os
import re
import subprocess
import sys
import textwrap

from tests.docs.pages import PAGES, ROOT, blocks_of, name_of

# What an excerpt leaves out is no mistake: names and modules of the project, annotations, bodies, and a name that each
# section gives anew.
LEFT_OUT = [
    "empty-body",
    "import-not-found",
    "import-untyped",
    "misc",
    "name-defined",
    "no-any-return",
    "no-redef",
    "no-untyped-call",
    "no-untyped-def",
    "type-arg",
    "untyped-decorator",
    "var-annotated",
]
# What works, and cannot be said in types.
UNTYPED = re.compile(
    r'"method_decorator" has incompatible|'  # Django's stubs want decorators of any response
    r'"Middleware" has incompatible type "type\[RequirementMiddleware\]"|'  # its **options hide it as a factory
    r'to "ship" has incompatible'  # the project knows that its gate has a ledger, and Zenskar for a source
)
HEAD = "ENTITLEMENT_GATE: dict[str, object]"


def module_of(page):
    """Return the blocks of a page as a module, each on the lines where it stands."""
    lines = [HEAD]
    for block in (each for each in blocks_of(page) if each.language == "python"):
        lines += [""] * (block.line - 1 - len(lines))
        lines += textwrap.dedent(block.text).splitlines()
    return "\n".join(lines) + "\n"


def type_check(folder):
    """Return what mypy finds in the modules of a folder."""
    options = ["--no-warn-unused-ignores", *(f"--disable-error-code={code}" for code in LEFT_OUT)]
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *options, str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line and not UNTYPED.search(line)]


def test_every_python_block_is_rightly_typed(tmp_path):
    for page in PAGES:
        (tmp_path / re.sub(r"\W", "_", name_of(page).removesuffix(".md"))).with_suffix(".py").write_text(
            module_of(page)
        )
    (tmp_path / "planted.py").write_text("from entitlement_gate import has_entitlement\nhas_entitlement(nobody=1)\n")

    found = type_check(tmp_path)
    assert [line for line in found if "planted.py:2" in line], "mypy looks at calls of what the package exports"
    assert [line for line in found if "planted.py" not in line] == []
