"""``ProtectTab``: from a file that is dropped to one that is downloaded; every face is seen before anything is made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gradio as gr

from deidlib.app import words
from deidlib.app.errand import Errand
from deidlib.app.judgement import judged
from deidlib.app.marked_face import Box, DrawnFace
from deidlib.app.mendable import MENDABLE
from deidlib.app.notes import about, notes
from deidlib.app.page.key_part import KeyPart
from deidlib.app.picture import Mark, Picture
from deidlib.app.progress import Stopped
from deidlib.app.protected import Protected
from deidlib.app.recipe import command_of, python_of
from deidlib.app.session import Session
from deidlib.app.sessions import Sessions
from deidlib.app.settings import Settings
from deidlib.attack.presets import TOLERANCES
from deidlib.evaluation import Evaluation
from deidlib.visualize import amplified

_SWAP = (
    "Whoever is in this picture will be seen in the file. Take somebody who has agreed, or a face of nobody: a picture "
    "from the web shows a person, too."
)
_CHANGE = "What the attack changed, 16 times as strong: made from box and points, not from the face"
_DRAW = (
    "Is a face missed? Click one corner of it in the picture on the left, then the opposite one. What is drawn is "
    "hidden, and read by those who may. In a clip it holds for all frames; where the face moves, draw it again in "
    "other frames, and it is followed in between."
)
_ON_MISSING = [
    ("hide where the last one was, then the whole frame", "hold"),
    ("hide the whole frame", "whole-frame"),
    ("leave it as it is, with any face that was missed", "keep"),
]
_HIDING = [
    ("plain grey: takes nothing from the face", "solid"),
    ("mosaic: leaves sums over the face", "pixelate"),
    ("blur: can be undone in part", "blur"),
    ("another face", "swap"),
]
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

Updates = dict[Any, Any]


class ProtectTab:
    """The components, and what happens when they are used.

    Args:
        sessions: of the page's users.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions, menu = sessions, sessions.menu
        self.file = gr.File(label="1. Drop an image or a clip", height=140, elem_id="file")
        self.status = gr.HTML(padding=False, elem_id="status")
        with gr.Column(visible=False, elem_id="faces-part") as self.faces_part:
            gr.Markdown("## 2. Are all faces marked?")
            with gr.Row():
                self.marked = gr.Image(
                    label="The original: nothing of it leaves this machine",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="marked",
                )
                self.hidden = gr.Image(
                    label="Hidden, before the attack", interactive=False, buttons=["fullscreen"], elem_id="hidden"
                )
            self.frame = gr.Slider(0, 1, 0, step=1, label="Frame", visible=False, elem_id="frame")
            self.faces = gr.CheckboxGroup(label="Hide", elem_id="faces")
            self.note = gr.HTML(padding=False, elem_id="faces-note")
            with gr.Accordion("Draw a face that was missed", open=True):
                gr.Markdown(_DRAW)
                self.which = gr.Radio(label="What is drawn", visible=False, elem_id="which")
                with gr.Row():
                    self.box = gr.Textbox(
                        label="or its box, in pixels: left, top, right, bottom",
                        placeholder="120, 40, 180, 110",
                        scale=3,
                        elem_id="box",
                    )
                    self.add = gr.Button("Add this box", scale=1, elem_id="add")
                    self.undraw = gr.Button("Undo what was drawn", scale=1, elem_id="undraw")
            gr.Markdown("## 3. Who may read, and how is it hidden?")
            self.targets = gr.CheckboxGroup(
                list(menu.targets), value=[next(iter(menu.targets))], label="These models may read", elem_id="targets"
            )
            if menu.absent:
                absent = f"Others are not on this machine: {', '.join(menu.absent)}."
                gr.HTML(words.said("plain", absent, "deidlib weights fetch NAME gets one."), padding=False)
            self.hide = gr.Radio(_HIDING, value="solid", label="Faces are hidden by", elem_id="hide")
            with gr.Column(visible=False) as self.source_part:
                gr.HTML(words.said("note", _SWAP), padding=False)
                self.source = gr.File(label="The face to show", height=120, elem_id="source")
                self.source_said = gr.HTML(padding=False, elem_id="source-said")
            KeyPart(sessions)
            with gr.Accordion("More", open=False):
                self.iterations = gr.Slider(0, 200, 60, step=1, label="Steps of the attack at most; 0: only hide")
                self.epsilon = gr.Slider(0, 32, 8, step=1, label="Largest change of a pixel, of 255 levels")
                until = [
                    ("as is recommended", "auto"),
                    ("after all steps", "never"),
                    *((f"as soon as it reads well: {name}", name) for name in TOLERANCES),
                ]
                self.until = gr.Radio(until, value="auto", label="A frame is done")
                self.missing = gr.Radio(_ON_MISSING, value="hold", label="A frame in which no face is known")
                codecs = [("FFV1 in .mkv, which loses nothing", "ffv1"), ("H.264 in .mp4, smaller", "h264")]
                self.codec = gr.Radio(codecs, value="ffv1", label="A clip is written as")
            with gr.Row():
                self.go = gr.Button("4. Protect", variant="primary", elem_id="go")
                self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
            self.going = gr.HTML(padding=False, elem_id="going")
        with gr.Column(visible=False, elem_id="result") as self.result:
            gr.Markdown("## 5. Before you share it")
            self.verdict = gr.HTML(padding=False, elem_id="verdict")
            with gr.Row():
                self.slider = gr.ImageSlider(
                    label="Original and protected: move the line", interactive=False, buttons=["fullscreen"],
                    max_height=1200, elem_id="slider",
                )  # fmt: skip
                self.change = gr.Image(
                    label=_CHANGE, interactive=False, buttons=["fullscreen"], elem_id="change"
                )  # fmt: skip
            with gr.Row():
                self.downloads = [
                    gr.DownloadButton(label, variant=kind, elem_id=name, min_width=200)
                    for label, kind, name in (
                        ("Protected file", "primary", "get-file"),
                        ("Its description (.json)", "secondary", "get-sidecar"),
                        ("Report (.html)", "secondary", "get-report"),
                        ("Faces (faces.json)", "secondary", "get-faces"),
                        ("Contact sheet (.html)", "secondary", "get-audit"),
                    )
                ]
            with gr.Accordion("How the attack went", open=False):
                self.curves = gr.HTML(padding=False, elem_id="curves")
            with gr.Accordion("The same without this page", open=False):
                self.command = gr.Code(language="shell", label="Command", interactive=False, elem_id="command")
                self.python = gr.Code(language="python", label="Python", interactive=False, elem_id="python")
        self._connect()

    def _connect(self) -> None:
        """Say what happens when."""
        settings = [
            self.targets, self.hide, self.epsilon, self.iterations, self.until, self.missing, self.codec,
        ]  # fmt: skip
        seen = [self.status, self.marked, self.hidden, self.faces, self.note, self.which, self.result]
        shown = [*seen, self.file, self.faces_part, self.frame, self.going]
        result = [self.verdict, self.slider, self.change, *self.downloads, self.curves, self.command, self.python]
        looking: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2, "show_progress": "hidden"}
        quietly: dict[str, Any] = {"show_progress": "hidden"}

        self.file.upload(self.take, [self.file, *settings], shown, api_name="take", **looking)
        self.targets.input(self.look, settings, shown, api_name="look", **looking)
        here = [self.frame, *settings]
        self.faces.input(self.checked, [self.faces, *here], seen, api_name="check", **quietly)
        self.frame.release(self.turned, here, [*seen, self.slider, self.change], api_name="frame", **quietly)
        self.marked.select(self.clicked, [self.which, *here], seen, api_name=False, **quietly)
        gr.on(
            [self.add.click, self.box.submit], self.boxed, [self.box, self.which, *here], [*seen, self.box],
            api_name="draw", **quietly,
        )  # fmt: skip
        self.undraw.click(self.undrawn, here, seen, api_name="undraw", **quietly)
        self.hide.input(self.hid, here, [*seen, self.source_part, self.source_said], api_name="hide", **quietly)
        self.missing.input(self.again, here, seen, api_name=False, **quietly)
        self.source.upload(
            self.sourced, [self.source, *here], [*seen, self.source, self.source_said], api_name="source", **quietly
        )
        buttons = [self.go, self.stop, self.going, self.result]
        self.go.click(self.begin, None, buttons, api_name=False, **quietly).then(
            self.protect, here, [*buttons, *result, self.status],
            api_name="protect", concurrency_id="attack", concurrency_limit=1, show_progress="hidden",
        )  # fmt: skip
        self.stop.click(self.stopped, None, self.going, api_name="stop", **quietly)

    # The file and its faces

    def take(self, request: gr.Request, upload: str | None, *said: Any) -> Iterator[Updates]:
        """A file was dropped."""
        session = self._of(request)
        if upload is None:
            return
        try:
            session.take(upload)
        except MENDABLE as error:
            yield {
                self.file: None,
                self.status: words.said("bad", session.folder.in_words(error)),
                self.faces_part: gr.update(visible=session.clip is not None),
            }
            return
        yield {self.file: None, self.faces_part: gr.update(visible=False)}
        yield from self.look(request, *said)

    def look(self, request: gr.Request, *said: Any) -> Iterator[Updates]:
        """Find the faces."""
        session = self._of(request)
        try:
            settings, clip = _settings(*said), session.opened
            errand: Errand[int, None] = Errand(lambda tell: session.look(settings, tell))
            try:
                for done in errand:
                    yield {self.status: words.working("looking for faces", done, clip.frames)}
                errand.result()
            finally:
                session.stop()
                session.called_off = False
            last = clip.frames - 1
            yield self._seen(session, 0, settings) | {
                self.faces_part: gr.update(visible=True),
                self.result: gr.update(visible=False),
                self.frame: gr.update(maximum=max(last, 1), value=0, visible=last > 0),
                self.going: "",
            }
        except Stopped:
            yield {self.status: words.said("note", "stopped.")}
        except MENDABLE as error:
            yield {self.status: words.said("bad", session.folder.in_words(error))}

    def checked(self, request: gr.Request, numbers: list[int], *here: Any) -> Updates:
        """Faces were checked or unchecked."""
        return self._change(
            request, here, lambda session, frame: session.marking.check([int(number) for number in numbers])
        )

    def clicked(self, request: gr.Request, event: gr.SelectData, which: int | None, *here: Any) -> Updates:
        """Somebody clicked into the picture: a corner of a face."""

        def corner(session: Session, frame: int) -> None:
            x, y = Picture(session.frame(frame)).in_frame(*event.index)
            session.marking.corner(frame, x, y, face=None if which is None or which < 0 else int(which))

        return self._change(request, here, corner)

    def boxed(self, request: gr.Request, text: str, which: int | None, *here: Any) -> Updates:
        """A box was typed."""

        def draw(session: Session, frame: int) -> None:
            session.marking.draw(frame, _box(text), face=None if which is None or which < 0 else int(which))

        return self._change(request, here, draw) | {self.box: ""}

    def undrawn(self, request: gr.Request, *here: Any) -> Updates:
        """What was drawn last was a mistake."""
        return self._change(request, here, lambda session, frame: session.marking.undraw())

    def again(self, request: gr.Request, *here: Any) -> Updates:
        """Something is hidden in another way."""
        return self._change(request, here, lambda session, frame: None)

    def turned(self, request: gr.Request, *here: Any) -> Updates:
        """Another frame is looked at."""
        session, frame = self._of(request), int(here[0])
        try:
            compared = self._compared(session, frame) if session.result is not None else {}
            return self._seen(session, frame, _settings(*here[1:])) | compared
        except MENDABLE as error:
            return {self.status: words.said("bad", session.folder.in_words(error))}

    def hid(self, request: gr.Request, *here: Any) -> Updates:
        """Faces are hidden in another way; a swap needs a face first."""
        swap = here[2] == "swap"
        ready = not swap or self._of(request).source is not None
        changed = self.again(request, *here) if ready else {}
        return changed | {self.source_part: gr.update(visible=swap)}

    def sourced(self, request: gr.Request, upload: str | None, *here: Any) -> Updates:
        """A face to be shown was dropped."""
        session = self._of(request)
        if upload is None:
            return {}
        try:
            session.take_source(upload)
            doubt = session.doubt(_settings(*here[1:]))
        except MENDABLE as error:
            session.source = None
            return {self.source: None, self.source_said: words.said("bad", session.folder.in_words(error))}
        said = words.said("note", doubt) if doubt else words.said("good", "This face will be shown.")
        return self.again(request, *here) | {self.source: None, self.source_said: said}

    # The work

    def begin(self, request: gr.Request) -> Updates:
        """The button was pressed; others may be at work."""
        self._of(request).called_off = False
        return {
            self.go: gr.update(interactive=False),
            self.stop: gr.update(visible=True),
            self.result: gr.update(visible=False),
            self.going: words.working("waits for its turn", 0, 1),
        }

    def protect(self, request: gr.Request, *here: Any) -> Iterator[Updates]:
        """Hide, attack, and show the result to everybody."""
        session, frame = self._of(request), int(here[0])
        updates: Updates = {self.going: ""}
        try:
            if session.called_off:
                raise Stopped
            settings = _settings(*here[1:])
            if here[1:][1] == "swap" and session.source is None:
                raise ValueError("a swap needs a picture of the face to show: drop one, or hide in another way.")
            made: Errand[str, Protected] = Errand(
                lambda tell: session.protect(settings, lambda p: tell(words.going(p)))
            )
            for told in made:
                yield {self.going: told}
            protected = made.result()
            read: Errand[str, Evaluation] = Errand(
                lambda tell: session.evaluate(lambda done, frames: tell(words.working("who reads it", done, frames)))
            )
            for told in read:
                yield {self.going: told}
            evaluation = read.result()
            updates |= self._shown(session, protected, evaluation, frame)
        except Stopped:
            updates[self.going] = words.said("note", "stopped; nothing was made.")
        except MENDABLE as error:
            updates[self.going] = words.said("bad", session.folder.in_words(error))
        finally:
            # Also where the user has closed the page meanwhile.
            session.stop()
            session.called_off = False
        yield updates | {self.go: gr.update(interactive=True), self.stop: gr.update(visible=False)}

    def stopped(self, request: gr.Request) -> Any:
        """No more of it."""
        self._of(request).stop()
        return gr.skip()

    # What is shown

    def _of(self, request: gr.Request) -> Session:
        return self.sessions.of(request.session_hash or "")

    def _change(self, request: gr.Request, here: tuple[Any, ...], change: Any) -> Updates:
        """Change something, and show what comes of it; or say why not."""
        session, frame = self._of(request), int(here[0])
        try:
            settings = _settings(*here[1:])
            change(session, frame)
            # What was made before was made of something else.
            return self._seen(session, frame, settings) | {self.result: gr.update(visible=False)}
        except MENDABLE as error:
            return {self.status: words.said("bad", session.folder.in_words(error))}

    def _seen(self, session: Session, frame: int, settings: Settings) -> Updates:
        """The faces of a frame, and how it is hidden."""
        marks = [
            Mark(number + 1, _as_box(face.at(frame).boxes[0].tolist()), number in session.marking.checked)
            for number, face in enumerate(session.marking.faces)
            if len(face.at(frame))
        ]
        marked = Picture(session.frame(frame)).marked(marks, session.marking.corner_in(frame))
        image, tracked = session.hidden(frame, settings)
        drawn = [number for number, face in enumerate(session.marking.faces) if isinstance(face, DrawnFace)]
        which = [("a new face", -1), *((f"face {number + 1} in this frame", number) for number in drawn)]
        return {
            self.status: words.said("plain", *about(session)),
            self.marked: str(marked.save(session.folder.place("marked.png"))),
            self.hidden: str(Picture(image).save(session.folder.place("hidden.png"))),
            self.faces: gr.update(
                choices=[
                    (f"{number + 1}: {face.said(session.opened.frames)}", number)
                    for number, face in enumerate(session.marking.faces)
                ],
                value=sorted(session.marking.checked),
            ),
            self.note: notes(session, frame, tracked.treatment),
            self.which: gr.update(choices=which, value=-1, visible=bool(drawn) and session.opened.frames > 1),
        }

    def _shown(self, session: Session, protected: Protected, evaluation: Evaluation, frame: int) -> Updates:
        """The result."""
        original = session.opened.path.name
        source = None if session.source is None else session.source.name
        names = protected.settings.targets
        files = (protected.path, protected.sidecar, protected.report, protected.faces, protected.audit)
        return {
            self.result: gr.update(visible=True),
            self.verdict: words.judgements(judged(protected, evaluation), evaluation),
            **self._compared(session, frame),
            **{
                button: gr.update(visible=path is not None, value=None if path is None else str(path))
                for button, path in zip(self.downloads, files, strict=True)
            },
            self.curves: words.curves(protected.curves) or words.said("plain", "Nothing was attacked."),
            self.command: command_of(protected, original, source),
            self.python: python_of(
                protected, original, self.sessions.menu.calls, source=source,
                silenced=bool(self.sessions.menu.silenced(names)),
            ),
        }  # fmt: skip

    def _compared(self, session: Session, frame: int) -> Updates:
        """A frame before and after."""
        assert session.result is not None
        before, after = session.frame(frame), session.protected(frame)
        pictures = [str(Picture(image).save(session.folder.place("compared.png"))) for image in (before, after)]
        change = amplified(after, session.attacked_from(frame))
        return {
            self.slider: tuple(pictures),
            self.change: str(Picture(change).save(session.folder.place("change.png"))),
        }


def _settings(*said: Any) -> Settings:
    """What was chosen; in the order of the components."""
    targets, hide, epsilon, iterations, until, missing, codec = said
    return Settings(tuple(targets), hide, int(epsilon), int(iterations), until, missing, codec)


def _box(text: str) -> Box:
    """Four numbers.

    Raises:
        ValueError: more or fewer.
    """
    numbers = [float(number) for number in _NUMBER.findall(text or "")]
    if len(numbers) != 4:
        raise ValueError(f"a box is four numbers, left, top, right, bottom, in pixels; got {text or 'nothing'!r}.")
    return _as_box(numbers)


def _as_box(numbers: list[float]) -> Box:
    left, top, right, bottom = numbers
    return left, top, right, bottom
