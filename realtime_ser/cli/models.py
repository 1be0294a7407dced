"""`realtime-ser models`: what is bundled, a model's card, a check against the contract."""

from __future__ import annotations

from typing import Annotated

import typer

from realtime_ser.printable import plain_console, printable, say

_LONGEST_CARD = 100_000
"""Characters shown."""


def models(
    name: Annotated[str | None, typer.Argument(help="Show this model's card, or check this folder or file.")] = None,
) -> None:
    """List the bundled models; with a name or folder, check it and show its card."""
    from rich.markdown import Markdown

    from realtime_ser.stages.model import DEFAULT_MODEL, find_model, load_model, models_folder

    if name is None:
        for folder in sorted(p for p in models_folder().iterdir() if p.is_dir()):
            contract = load_model(folder).contract
            default = " (default)" if folder.name == DEFAULT_MODEL else ""
            say(f"{folder.name}{default}: {', '.join(contract.labels)}; {contract.licence}")
        return
    model = load_model(name)
    say(f"{model.contract.model_id}: fits the contract; sha256 {model.sha256}")
    card = find_model(name) / "card.md"
    if card.is_file():
        with card.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_LONGEST_CARD).splitlines()
        # Addresses are shown, not made into links of the terminal.
        plain_console().print(Markdown("\n".join(map(printable, lines)), hyperlinks=False))
