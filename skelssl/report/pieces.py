"""Pieces of a page. All text that comes from data goes through `escape`."""

from collections.abc import Sequence
from html import escape

from skelssl.protocols.results import Result


def section(name: str, title: str, body: str) -> str:
    """A part of the page that the list at its top can point to."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>'


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def figure(picture: str, name: str, details: str = "", mark: str = "") -> str:
    """A picture with its name and details below; `mark` is HTML."""
    return f"<figure>{picture}<figcaption><b>{mark}{escape(name)}</b>{escape(details)}</figcaption></figure>"


def grid(kind: str, items: Sequence[str]) -> str:
    """Items beside each other, as many as there is room for; `kind` is cards, charts, clips or row."""
    return f'<div class="{kind}">{"".join(items)}</div>'


def per_run(names: Sequence[str], bodies: Sequence[str]) -> str:
    """The same of every run, under its name where there are several runs."""
    titles = [f"<h3>{escape(name)}</h3>" if len(names) > 1 else "" for name in names]
    return "".join(title + body for title, body in zip(titles, bodies, strict=True) if body)


def conditions(row: Result) -> str:
    """What a number depends on: data, splits, seed, protocol and epochs."""
    return f"{where(row)}; {how(row)}"


def where(row: Result) -> str:
    """Data, splits and seed of a number."""
    return (
        f"{row.dataset} ({row.preprocessing}), trained on {row.train}, tested on the {row.test_samples} sequences of "
        f"{row.test}; pre-trained on {row.pretrained_on}, seed {row.seed}"
    )


def how(row: Result) -> str:
    """Protocol and epochs of a number."""
    parts = (row.protocol, f"k = {row.k}" if row.k else "", f"{row.epochs} epoch" if row.epochs else "")
    return ", ".join(part for part in parts if part)
