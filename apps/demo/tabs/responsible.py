"""What the page says about using it well, and whether the filter is on. `docs/responsible-use.md` is the same text."""

import gradio as gr

from ..app_state import AppState
from ..picture_filter import HIDDEN

TEXT = """\
# Responsible use

What not to make, what the models cannot know, and how to turn on a filter
(`amused-lite demo --filter ViT-B-32:weights.safetensors`).

amused-lite makes pictures from words, on your own machine. Nobody sees what you ask for, so nobody can look
after it for you either. The authors of Muse (Chang et al. 2023) did not publish their model because of the harm
such models can do; those of aMUSEd published theirs for research and for play. Please keep to the following.

## What not to make

* **Real people.** No pictures that show someone doing or saying what they did not, no undressing, no likeness
  of anyone who has not agreed. What a picture says about a person stays with that person.
* **Faces as facts.** A drawn face is nobody's. Do not use one as evidence, as a profile picture of somebody who
  does not exist, or to guess anything about anybody.
* **Deceit.** No pictures that pretend to be news, documents, receipts, maps or medical images.
* **Harm.** Nothing sexual with minors, ever; no harassment, no glorified violence, no hate.
* **Someone's living.** A style learned from a living artist's pictures needs that artist's agreement.

## What the models have learned, and what they have not

* The bundled model `tiny` knows drawn scenes of twelve kinds of things and has never seen a person. It is the
  safe one to give to children.
* aMUSEd's published models learned from pictures of the web. Such collections show the world as those who
  upload pictures see it: some skin colours, ages, bodies, jobs and countries far more often than others, and
  many clichés. "A doctor" or "a beautiful house" comes out as that collection has it, not as the world is. Say
  what you mean, and look twice.
* They read English, draw letters badly, count poorly, and are often wrong about hands and faces. A picture
  proves nothing.

## What this program does

* **Everything stays here.** The page loads nothing from elsewhere and sends nothing. "Write nothing to the
  disk" at the top means what it says, for the tab of the browser in which it is ticked.
* **Files say how they were made.** Every PNG carries its prompt, seed and model, and the IPTC digital source
  type `trainedAlgorithmicMedia`, by which other programs know it for machine-made. Whoever wants to can take
  this out; it is an honest label, not a seal.
* **A filter, if you bring one.** `amused-lite demo --filter ViT-B-32:weights.safetensors` compares every
  finished picture with a short list of things, using open_clip weights of your own. What it finds is blurred,
  with the reason and a score, and one click shows it. It is often wrong, both ways. Nothing is blacked out, and
  nothing is reported to anyone. Without the flag it is off.
"""


class ResponsibleTab:
    """The text, below one line about the filter."""

    def __init__(self, app_state: AppState) -> None:
        if app_state.filter is None:
            state = "The filter is **off**: no open_clip weights were given (`--filter`). No picture is blurred."
        else:
            hidden = ", ".join(HIDDEN)
            state = f"The filter is **on**. It blurs what it takes for {hidden}. One click shows a picture."
        with gr.Column(elem_classes="reading"):
            gr.Markdown(state, elem_id="filter-state")
            gr.Markdown(TEXT)
