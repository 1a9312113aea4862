"""Sentences about the actions of a video of world d, by templates.

For each action, one of the sentences that describe it and no other action is drawn. An action that occurs twice is
identified by a word of order ("for the second time", "after ..."). Other actions may have such a word too, and some
sentences name only a movement ("something ... for the last time"). So neither the things in a video nor their movements
are enough to find the moment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_VERBS = {
    "horizontal": ("runs from side to side", "moves left and right", "goes back and forth across the picture"),
    "vertical": ("runs up and down", "climbs and falls again and again", "moves between the top and the bottom"),
}
_ARTICLES = ("a", "the")


def sentences_about(rng: np.random.Generator, actions: Sequence[str]) -> list[str]:
    """One sentence for each of a video's actions.

    Args:
        actions: names such as ``red_square_horizontal``, in order of time, without overlap.
    """
    return [_sentence(rng, actions, place) for place in range(len(actions))]


def meanings_of(actions: Sequence[str], place: int) -> list[str]:
    """The ways to describe action `place` and no other: at least one.

    ``alone``: it is the only one of its name. ``first``, ``second``: it occurs twice. ``after``, ``before``: it is the
    only one of its name that has the adjacent action anywhere before, or after, it. ``first_movement``,
    ``last_movement``: it is the first or last of all actions with its movement.
    """
    name = actions[place]
    same = [i for i, other in enumerate(actions) if other == name]
    moving = [i for i, other in enumerate(actions) if _movement(other) == _movement(name)]
    meanings = ["alone"] if len(same) == 1 else []
    if len(same) == 2:
        meanings.append(("first", "second")[same.index(place)])
    if place > 0 and actions[place - 1] != name and [i for i in same if actions[place - 1] in actions[:i]] == [place]:
        meanings.append("after")
    following = actions[place + 1 :][:1]
    if following and following[0] != name and [i for i in same if following[0] in actions[i + 1 :]] == [place]:
        meanings.append("before")
    if len(moving) > 1 and place in (moving[0], moving[-1]):
        meanings.append("first_movement" if place == moving[0] else "last_movement")
    return meanings


def _sentence(rng: np.random.Generator, actions: Sequence[str], place: int) -> str:
    meaning = str(rng.choice(meanings_of(actions, place)))
    what = _clause(rng, actions[place], names_thing=not meaning.endswith("_movement"))
    neighbour = {"after": place - 1, "before": place + 1}.get(meaning)
    if neighbour is not None:
        return f"{what} {meaning} {_clause(rng, actions[neighbour])}"
    if meaning == "alone":
        return what
    return f"{what} for the {meaning.removesuffix('_movement')} time"


def _clause(rng: np.random.Generator, action: str, names_thing: bool = True) -> str:
    article, verb = str(rng.choice(_ARTICLES)), str(rng.choice(_VERBS[_movement(action)]))
    thing = f"{article} {' '.join(action.split('_')[:-1])}" if names_thing else "something"
    return f"{thing} {verb}"


def _movement(action: str) -> str:
    return action.rsplit("_", 1)[1]
