"""What can go wrong by the user's hand or the machine's, and how it is said in one line."""

import errno
import re


class UserError(Exception):
    """Bad input or settings. The message is one line: what is wrong, where, and what to do about it."""

    def __str__(self) -> str:
        return printable(super().__str__())


class NonFiniteError(FloatingPointError):
    """Results that are not finite: `image` its index in the batch, `what` says which, such as "scores of layer 3"."""

    def __init__(self, image: int, what: str):
        super().__init__(f"image {image} of the batch: the {what} are not finite")
        self.image, self.what = image, what


def printable(text: str) -> str:
    """`text` with line breaks, control characters and undecodable bytes as escapes: names come from outside."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_markdown(name: str) -> str:
    """`name`, which comes from outside, as Markdown that shows it as text: no HTML, link, formula or table's end."""
    return re.sub(r"[\\`*\[\]<>|$~&#!]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", printable(name))


def one_line(error: BaseException, limit: int = 200) -> str:
    """The message of `error` on one line, shortened; its type where it has no message."""
    return shortened(str(error), limit) or type(error).__name__


def shortened(text: str, limit: int = 200) -> str:
    """`text` on one line of at most `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory, a GPU's or the machine's, is short."""
    signs = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    names = {kind.__name__ for kind in type(error).__mro__}  # PyTorch's own type, without importing PyTorch
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or any(sign in str(error) for sign in signs)


def disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
