"""What a click carries beside the values of components: whatever a client says, so it is looked at before it counts."""

from typing import Any

import gradio as gr

TICKED = """
element.addEventListener('change', () => {
  trigger('click', { ticked: [...element.querySelectorAll('input:checked')].map((input) => Number(input.value)) });
});
"""  # what a component of boxes to tick runs, for `ticked`


def said(event: gr.EventData, name: str) -> Any:
    """A value of the event; None where it has none of this name."""
    try:
        return getattr(event, name, None)
    except TypeError:  # it carries a number, or nothing
        return None


def said_number(event: gr.EventData, name: str) -> int:
    """A whole number of the event, 0 or more; the page's own come as words too.

    Raises:
        gr.Error: it is none.
    """
    value = said(event, name)
    if not (isinstance(value, int | str) and str(value).isascii() and str(value).isdigit() and len(str(value)) < 10):
        raise gr.Error(f"{name} must be a whole number; reload the page", print_exception=False)
    return int(value)


def ticked(event: gr.EventData, most: int) -> list[int]:
    """The numbers below `most` of the boxes that are ticked, each once, in order."""
    given = said(event, "ticked")
    numbers = given if isinstance(given, list) else []
    return sorted({number for number in numbers if type(number) is int and 0 <= number < most})
