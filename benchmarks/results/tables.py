"""The tables of docs/results.md, as markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .cases import CLIPS, DEFAULT, EVERYBODY, HIDING, SETS, STORED

Results = Mapping[tuple[str, str, str, str], Mapping[str, Any]]
READERS = (
    "RetinaFace",
    "MTCNN",
    "RetinaFace, then MPIIGaze",
    "RetinaFace, other weights",
    "YuNet",
    "PFLD, told the box",
)


def default_table(results: Results) -> str:
    """Everybody's reading of the default setting, stored without loss."""
    head = (
        "clip",
        "authorised",
        "read by",
        "found",
        "box term",
        "landmarks, px",
        "NME",
        "gaze",
        "DiffScore",
        "normalised",
    )
    rows = []
    for clip in CLIPS:
        for authorised in SETS:
            result = results.get((clip, DEFAULT, authorised, "FFV1"))
            if result is None:
                continue
            for reader in READERS:
                r = result[reader]
                rows.append(
                    (
                        clip,
                        authorised,
                        reader,
                        # Told the box, it finds the face by definition.
                        "" if reader.startswith("PFLD") else f"{r['coverage']:.0%}",
                        "" if reader.startswith("PFLD") else f"{r['box']:.3f}",
                        _number(r["landmarks"], 1),
                        f"{100 * r['nme']:.1f} %",
                        f"{_number(r['gaze'], 1)}°" if r["gaze"] == r["gaze"] else "",
                        _number(r["score"], 1),
                        f"{r['normalised']:.2f}",
                    )
                )
    return _markdown(head, rows)


def hiding_table(results: Results) -> str:
    """How the way of hiding matters, stored without loss."""
    return _compare(results, "hiding", [(hiding, "FFV1") for hiding in HIDING], lambda hiding, stored: hiding)


def codec_table(results: Results) -> str:
    """How the way of storing matters, at the default hiding."""
    return _compare(results, "stored as", [(DEFAULT, stored) for stored in STORED], lambda hiding, stored: stored)


def identity_table(results: Iterable[Mapping[str, Any]]) -> str:
    """What three attackers achieve."""
    head = (
        "hiding",
        "attack",
        "attacker",
        "same frame: cosine mean / max",
        "accepted as oneself",
        "other frames: cosine, same person / others",
        "rank-1 (chance)",
        "TAR at FAR 1 %",
    )
    rows = []
    for result in results:
        for attacker in ("naive", "parrot", "linkage"):
            r = result[attacker]
            rows.append(
                (
                    result["hiding"],
                    "no" if result["authorised"] == "none" else "yes",
                    attacker,
                    f"{r['cosine_same']:.2f} / {r['cosine_same_max']:.2f}",
                    f"{r['accepted_same']:.0%}",
                    f"{r['cosine_genuine']:.2f} / {r['cosine_impostor']:.2f}",
                    f"{r['rank1']:.0%} ({r['chance']:.0%})",
                    f"{r['tar']:.0%}",
                )
            )
    return _markdown(head, rows)


def _compare(results: Results, name: str, settings: list[tuple[str, str]], label: Callable[[str, str], str]) -> str:
    head = (
        "clip",
        name,
        "attack",
        "RetinaFace IoU (found)",
        "MTCNN IoU (found)",
        "gaze along the chain",
        "other weights found",
        "YuNet found",
        "PFLD error, told the box",
        "PSNR in the region: to the original / of the perturbation",
        "flicker of the perturbation",
        "kB per frame",
    )
    rows = []
    for clip in CLIPS:
        for hiding, stored in settings:
            for authorised in ("none", EVERYBODY):
                result = results.get((clip, hiding, authorised, stored))
                if result is None:
                    continue
                face, mtcnn = result["RetinaFace"], result["MTCNN"]
                rows.append(
                    (
                        clip,
                        label(hiding, stored),
                        "no" if authorised == "none" else "yes",
                        f"{1 - face['box']:.3f} ({face['coverage']:.0%})",
                        f"{1 - mtcnn['box']:.3f} ({mtcnn['coverage']:.0%})",
                        f"{_number(result['RetinaFace, then MPIIGaze']['gaze'], 1)}°",
                        f"{result['RetinaFace, other weights']['coverage']:.0%}",
                        f"{result['YuNet']['coverage']:.0%}",
                        f"{100 * result['PFLD, told the box']['nme']:.0f} %",
                        f"{result['against original']['psnr_inside']:.1f} / "
                        f"{_number(result['against hidden']['psnr_inside'], 1)} dB",
                        f"{result['against hidden']['flicker_inside']:.1f}",
                        f"{result['bytes per frame'] / 1000:.0f}",
                    )
                )
    return _markdown(head, rows)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value == value else "-"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
