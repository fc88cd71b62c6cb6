"""Room for requests, the words that end a text, and who may ask: the parts of a host that others reach."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.hosts.asked import Refusal
from metainf.hosts.places import Places, wait_s
from metainf.hosts.stops import Stops

LETTERS = st.text(alphabet="abc", max_size=40)
WORDS = st.lists(st.text(alphabet="abc", min_size=1, max_size=5), max_size=4)


def cut(text: str, words: Sequence[str]) -> str:
    """The text before the word that is complete first as it is read letter by letter."""
    for end in range(len(text) + 1):
        places = [at for word in words if (at := text[:end].find(word)) >= 0]
        if places:
            return text[: min(places)]
    return text


@given(LETTERS, WORDS)
def test_stops_letter_by_letter(text: str, words: list[str]) -> None:
    stops = Stops(words)
    said = "".join(stops.add(letter) for letter in text)
    assert said + stops.rest() == cut(text, words)
    assert stops.found == any(word in text for word in words)


@given(st.lists(st.text(alphabet="abc", max_size=6), max_size=12), WORDS)
def test_stops_let_nothing_of_a_word_out(pieces: list[str], words: list[str]) -> None:
    stops, said = Stops(words), ""
    for piece in pieces:
        said += stops.add(piece)
        assert not any(word in said for word in words)
    said += stops.rest()
    assert not any(word in said for word in words)
    assert "".join(pieces).startswith(said)
    if not stops.found:
        assert said == "".join(pieces)


@given(st.integers(1, 4), st.integers(0, 5), st.lists(st.integers(0, 3), max_size=25))
def test_never_more_than_there_is_room_for(places: int, in_line: int, moves: list[int]) -> None:
    """Callers come, are done, and give up in any order: no place is lost and none is given twice."""

    async def story() -> None:
        room, inside = Places(places, in_line), 0
        doors: list[tuple[asyncio.Task[None], asyncio.Event]] = []

        async def caller(done: asyncio.Event) -> None:
            nonlocal inside
            async with room.place():
                inside += 1
                try:
                    await done.wait()
                finally:
                    inside -= 1

        for move in moves:
            if move < 2 or not doors:
                done = asyncio.Event()
                doors.append((asyncio.create_task(caller(done)), done))
            elif move == 2:
                doors[len(doors) // 2][1].set()
            else:
                doors.pop(len(doors) // 2)[0].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert inside <= places and room.in_line <= in_line
        for _, done in doors:
            done.set()
        outcomes = await asyncio.gather(*(task for task, _ in doors), return_exceptions=True)
        assert all(each is None or (isinstance(each, Refusal) and each.status == 429) for each in outcomes)
        await asyncio.sleep(0)
        assert (room.taken, room.in_line, inside) == (0, 0, 0)

    asyncio.run(story())


def test_first_come_first_served_until_it_closes() -> None:
    async def story() -> None:
        room, order = Places(1, 9), []
        first = asyncio.Event()

        async def caller(name: int) -> None:
            async with room.place():
                if name == 0:
                    await first.wait()
                order.append(name)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(caller(name)) for name in range(4)]
        await asyncio.sleep(0.01)
        tasks[2].cancel()
        first.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 1, 3]
        first.clear()
        holding = asyncio.create_task(caller(0))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(caller(7))
        await asyncio.sleep(0)
        room.close()
        with pytest.raises(Refusal, match="about to end"):
            await waiting
        with pytest.raises(Refusal, match="about to end"):
            await caller(8)
        first.set()
        await holding
        assert order == [0, 1, 3, 0]

    asyncio.run(story())


@given(st.floats(0.001, 100), st.integers(0, 50), st.integers(1, 16))
def test_when_to_come_back(mean_s: float, line: int, places: int) -> None:
    assert 1 <= wait_s(mean_s, line, places) <= 60
    assert wait_s(mean_s, line, places) <= wait_s(mean_s, line + 1, places)
