"""``Session``: what one user of the page does with one file; all of it lies in a folder of its own and ends with it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from deidlib.app.marked_face import found_faces
from deidlib.app.marking import Marking
from deidlib.app.menu import Menu
from deidlib.app.opened_file import OpenedFile
from deidlib.app.own_folder import OwnFolder
from deidlib.app.progress import Progress, Stopped
from deidlib.app.protected import Protected
from deidlib.app.settings import SUFFIX, Settings
from deidlib.evaluation import Evaluation, IdentitySettings, evaluate
from deidlib.evaluation.report import write_report
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.media import read_image
from deidlib.media.clip import Clip
from deidlib.models.base import FaceModel
from deidlib.obfuscate import Concealment, Solid
from deidlib.protect.audit import write_audit
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.check import Check
from deidlib.protect.file import protect_file
from deidlib.protect.output import Output
from deidlib.protect.sidecar import Sidecar
from deidlib.records.detections import Detections, write_detections
from deidlib.records.files import sha256_of
from deidlib.swap.warp import WarpSwapper
from deidlib.tracking import TrackedFrame

_BATCH = 8
# Characters of a name that are kept.
_LONGEST = 80


class Session:
    """A file, the faces found in it, what the user says about them, and what was made of it.

    Args:
        folder: its own, which nobody else looks into; removed when it ends.
        menu: what there is to choose from.
    """

    def __init__(self, folder: Path, menu: Menu) -> None:
        self.folder, self.menu = OwnFolder(folder), menu
        self.clip: Clip | None = None
        self.marking = Marking(0, (1, 1))
        self.key: Key | None = None
        # Whether there is to be one: what waits for it is not made without.
        self.wants_key = False
        # Whether the user has thought better of what waits for its turn.
        self.called_off = False
        self.source: Path | None = None
        self.result: Protected | None = None
        self.opened_file: OpenedFile | None = None
        self._swapper: tuple[Path | None, tuple[str, ...], WarpSwapper] | None = None
        self._frame: tuple[int, Tensor] | None = None
        self._written: Clip | None = None
        self._working = threading.Lock()
        self._wanted = True

    # The file

    def take(self, upload: str | Path) -> Clip:
        """Take a file that was uploaded: it is moved into the folder, and all that was before it is forgotten.

        Raises:
            MediaReadError: it cannot be read; nothing of it is kept.
            ValueError: work is going on.
        """
        with self._alone():
            self._forget()
            with self.folder.moved(upload) as path:
                clip = Clip.open(path)
            self.clip, self.marking = clip, Marking(clip.frames, clip.size)
            return clip

    def take_source(self, upload: str | Path) -> None:
        """Take the picture of a face to be shown instead; it is kept until there is another one.

        Raises:
            MediaReadError: it is no image that can be read.
        """
        self._swapper = None
        with self.folder.moved(upload) as path:
            read_image(path)
        self.source = path

    def take_key(self, upload: str | Path) -> Key:
        """Take a key file; of the file nothing is kept.

        Raises:
            KeyFileError: it is none.
        """
        with self.folder.moved(upload) as path:
            # It came through the browser: whoever else may read it where it lies, its owner has been told of.
            self.key = Key.load(path)
        shutil.rmtree(path.parent, ignore_errors=True)
        return self.key

    def new_key(self) -> Path:
        """Make a key, and write it into a file, which is to be kept elsewhere before the session ends."""
        self.key = Key.generate()
        path = self.folder.place("deidlib.key")
        self.key.save(path)
        return path

    @property
    def opened(self) -> Clip:
        """The file.

        Raises:
            ValueError: there is none yet.
        """
        if self.clip is None:
            raise ValueError("there is no file yet. Drop an image or a clip.")
        return self.clip

    def frame(self, number: int) -> Tensor:
        """An original frame ``(3, H, W)``.

        Raises:
            ValueError: there is no such frame.
        """
        clip = self.opened
        if not 0 <= number < clip.frames:
            raise ValueError(f"there are frames 0 to {clip.frames - 1}, got {number}.")
        if self._frame is None or self._frame[0] != number:
            self._frame = (number, clip.some({number})[number])
        return self._frame[1]

    # The faces

    def look(self, settings: Settings, tell: Callable[[int], object] = lambda done: None) -> None:
        """Find the faces, as ``deidlib protect`` would; all of them are checked, those drawn before too.

        Args:
            settings: who may read.
            tell: told how many frames have been looked at.

        Raises:
            ValueError: no file, or nobody who finds faces.
        """
        with self._alone():
            clip = self.opened
            deidentifier = settings.deidentifier(self.menu, Solid())
            found, turned, disputed = list[Faces](), list[int](), list[int]()

            def detected() -> Iterator[DetectedBatch]:
                first = 0
                for images in clip.batches(_BATCH):
                    self._go_on()
                    yield deidentifier.detect(images.to(self.menu.device), first)
                    first += len(images)
                    tell(first)

            for batch, _ in deidentifier.follow(detected()):
                turned += [count.turned for count in batch.counts]
                disputed += [batch.first + i for i, count in enumerate(batch.counts) if count.disputed]
                found += [faces.to("cpu") for faces in batch.faces]
            self.marking.found(found_faces(found, turned), disputed)

    # What is seen

    def hidden(self, number: int, settings: Settings) -> tuple[Tensor, TrackedFrame]:
        """A frame as it will be hidden, before anything is attacked, and why so.

        Returns:
            ``(3, H, W)``, and where faces are taken to be.

        Raises:
            ValueError: no such frame; or no face to show instead.
        """
        return self._hidden(number, settings, self.marking.given())

    def concealment(self, settings: Settings) -> Concealment:
        """How faces are hidden; the face to be shown instead is looked for once.

        Raises:
            ValueError: there is none.
        """
        if settings.hide != "swap":
            return settings.concealment(self.menu, self.source)
        if self._swapper is None or self._swapper[:2] != (self.source, settings.targets):
            made = settings.concealment(self.menu, self.source)
            assert isinstance(made, WarpSwapper)
            self._swapper = (self.source, settings.targets, made)
        return self._swapper[2]

    def doubt(self, settings: Settings) -> str | None:
        """What speaks against the picture of the face to be shown; None if nothing does."""
        concealment = self.concealment(settings)
        return concealment.doubt if isinstance(concealment, WarpSwapper) else None

    def protected(self, number: int) -> Tensor:
        """A frame of the file that was made, ``(3, H, W)``.

        Raises:
            ValueError: none was made.
        """
        if self.result is None:
            raise ValueError("nothing is protected yet.")
        if self._written is None or self._written.path != self.result.path:
            self._written = Clip.open(self.result.path)
        return self._written.some({number})[number]

    def attacked_from(self, number: int) -> Tensor:
        """A frame of the file that was made as it was hidden, before it was attacked, ``(3, H, W)``.

        Raises:
            ValueError: none was made.
        """
        if self.result is None:
            raise ValueError("nothing is protected yet.")
        return self._hidden(number, self.result.settings, self.result.given)[0]

    # The work

    def protect(self, settings: Settings, tell: Callable[[Progress], object] = lambda known: None) -> Protected:
        """Hide the checked faces, and attack.

        Args:
            settings: how.
            tell: told how far it is.

        Raises:
            Stopped: the user wanted no more of it; nothing is left of it.
            MediaError: a file cannot be read or written.
            ValueError: no file, settings that make no sense, or work is going on.
        """
        with self._alone():
            # As they are checked now, whatever is clicked meanwhile.
            clip, given, left, unchecked = (
                self.opened,
                self.marking.given(),
                self.marking.left(),
                self.marking.unchecked,
            )
            key = self.key
            if self.wants_key and key is None:
                raise ValueError("the key file is missing. Drop it, or choose to have no key.")
            self._drop_result()
            image, concealment = clip.kind == "image", self.concealment(settings)
            deidentifier = settings.deidentifier(self.menu, concealment, keyed=key is not None)
            target = self.folder.place(f"{clip.path.stem}.protected{'.png' if image else SUFFIX[settings.codec]}")
            faces = target.with_name("faces.json")
            known = Detections(given, clip.size, sha256_of(clip.path), tuple(settings.targets))

            def going_on(progress: Progress) -> None:
                self._go_on()
                tell(progress)

            progress = Progress(clip.frames, going_on)
            attacked = settings.iterations > 0 and settings.epsilon > 0
            try:
                write_detections(faces, known)
                summary = protect_file(
                    deidentifier,
                    clip.path,
                    target,
                    output=Output("ffv1" if image else settings.codec),
                    check=Check() if attacked else None,
                    faces=known,
                    key=key,
                    progress=progress.progress,
                    stage=progress.stage,
                    on_step=progress.on_step,
                )
            except BaseException:
                shutil.rmtree(target.parent, ignore_errors=True)
                raise
            made = Protected(
                target, summary, faces, given, settings, key, progress.seconds, len(unchecked), left,
                progress.curves,
            )  # fmt: skip
            if made.audit is not None:
                write_audit(made.audit, target, summary.doubtful)
            self.result = made
            return made

    def evaluate(self, tell: Callable[[int, int], object] = lambda done, frames: None) -> Evaluation:
        """Show what was made to those who may read it, and to those who may not; and write the report beside it.

        Args:
            tell: told how many frames have been read, and how many there are.

        Raises:
            Stopped: the user wanted no more of it.
            ValueError: nothing was made, or work is going on.
        """
        with self._alone():
            if self.result is None:
                raise ValueError("nothing is protected yet.")
            protected, original, key = self.result, self.opened.path, self.result.key
            described = Sidecar.read(protected.path, wanted=True)
            assert described is not None
            models = self.menu.models(protected.settings.targets)
            authorised: dict[str, FaceModel] = dict(models)
            strangers = self.menu.readers(list(models))
            if key is not None:
                # Without the key, the models that may read are strangers like all others.
                authorised = {f"{name} with the key": described.reader(model, key) for name, model in models.items()}
                strangers |= {f"{name} without the key": model for name, model in models.items()}
            judge = self.menu.judge()

            def going_on(done: int, frames: int) -> None:
                self._go_on()
                tell(done, frames)

            result = evaluate(
                original,
                protected.path,
                authorised=authorised,
                unauthorised=strangers,
                identity=None if judge is None else IdentitySettings(judge),
                hidden_of=lambda path: described.hidden,
                batch_size=_BATCH,
                device=self.menu.device,
                progress=going_on,
            )
            write_report(protected.report, result)
            return result

    def open(self, uploads: Sequence[str | Path]) -> OpenedFile:
        """Take a protected file, what describes it and its key, as far as they were uploaded, in any order.

        Raises:
            ValueError: there is no protected file among them, or the key does not open it.
        """
        if self.opened_file is not None:
            shutil.rmtree(self.opened_file.folder, ignore_errors=True)
        self.opened_file = None
        folder = self.folder.place("opened")
        folder.mkdir(mode=0o700)
        try:
            for upload in uploads:
                with self.folder.moved(upload) as path:
                    path.rename(folder / path.name)
            self.opened_file = OpenedFile(folder, self.menu)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.opened_file

    def stop(self) -> None:
        """End the work that is going on, at its next step; what waits for its turn is called off."""
        self.called_off = True
        if self._working.locked():
            self._wanted = False

    def close(self) -> None:
        """End, and leave nothing."""
        self._wanted = False
        # Work that is going on ends by itself, and finds no folder.
        self.folder.remove()

    # Below

    def _hidden(self, number: int, settings: Settings, given: Sequence[Faces]) -> tuple[Tensor, TrackedFrame]:
        """A frame, hidden, and where; no other frame is looked at."""
        image = self.frame(number).to(self.menu.device)
        deidentifier = settings.deidentifier(self.menu, self.concealment(settings))
        given = [faces.to(image.device) for faces in given]
        batch = DetectedBatch(0, None, self.opened.size, given, [{} for _ in given])
        tracked = [frame for _, frames in deidentifier.follow([batch]) for frame in frames]
        return deidentifier.hide(image[None], [tracked[number]])[0].cpu(), tracked[number]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nothing else is done meanwhile."""
        if not self._working.acquire(blocking=False):
            raise ValueError("work is going on. Wait for it, or stop it first.")
        try:
            self._wanted = self.folder.path.is_dir()
            yield
        finally:
            self._working.release()

    def _go_on(self) -> None:
        if not self._wanted:
            raise Stopped

    def _forget(self) -> None:
        self._drop_result()
        if self.clip is not None:
            shutil.rmtree(self.clip.path.parent, ignore_errors=True)
        self.clip, self._frame, self.marking = None, None, Marking(0, (1, 1))

    def _drop_result(self) -> None:
        if self.result is not None:
            shutil.rmtree(self.result.path.parent, ignore_errors=True)
        self.result = None
