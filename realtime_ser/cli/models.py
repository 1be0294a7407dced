"""`realtime-ser models`: what is bundled, a model's card, a check against the contract."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    name: Annotated[str | None, typer.Argument(help="Show this model's card, or check this folder.")] = None,
) -> None:
    """List the bundled models; with a name or folder, check it and show its card."""
    from rich.console import Console
    from rich.markdown import Markdown

    from realtime_ser.stages.model import DEFAULT_MODEL, find_model, load_model, models_folder

    console = Console()
    if name is None:
        for folder in sorted(p for p in models_folder().iterdir() if p.is_dir()):
            contract = load_model(folder).contract
            default = " (default)" if folder.name == DEFAULT_MODEL else ""
            console.print(f"{folder.name}{default}: {', '.join(contract.labels)}; {contract.licence}", highlight=False)
        return
    model = load_model(name)
    console.print(f"{model.contract.model_id}: fits the contract; sha256 {model.sha256}", highlight=False)
    card = find_model(name) / "card.md"
    if card.is_file():
        console.print(Markdown(card.read_text(encoding="utf-8")))
