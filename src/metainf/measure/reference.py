"""What all methods are asked alike, so that their answers can be compared: the quality figure. Pure.

A long greedy answer is a poor witness: one other token early on makes all that follows differ, however good
it is. So plain passages are cut in many places, and a few tokens are asked after each cut: a flip costs the
rest of a few tokens, and the next cut begins on common ground. Later cuts of a passage begin with the earlier
ones, which a prefix cache finds again.
"""

from metainf.measure.words import Request

ANSWER_TOKENS = 4
_CUTS = 4
_LEAST_WORDS = 6
_PASSAGES = (
    "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. The first "
    "five of them are working days for most people, and the last two are the weekend.",
    "Water freezes at zero degrees Celsius and boils at one hundred degrees. When it freezes it turns into "
    "ice, and when it boils it turns into steam. Ice is lighter than water, so it floats.",
    "To make a cup of tea, first boil some water. Put a tea bag into a cup, pour the hot water over it and "
    "wait for a few minutes. Then take the tea bag out, and add milk or sugar if you like.",
    "Once upon a time there was a little girl who lived with her mother in a small house near the forest. "
    "One day her mother said to her: take this basket of bread to your grandmother, and do not talk to "
    "strangers.",
    "The capital of France is Paris, the capital of Italy is Rome, the capital of Spain is Madrid and the "
    "capital of Germany is Berlin. London is the capital of England, and Tokyo is the capital of Japan.",
    "Dear Sir or Madam, I am writing to ask about the position of sales manager at your company. I have ten "
    "years of experience in the field, and I would be glad to talk with you about it. I look forward to "
    "hearing from you.",
    "One plus one is two, two plus two is four, three plus three is six and four plus four is eight. Ten "
    "minus five is five, and ten minus three is seven. Half of twenty is ten.",
    "The heart pumps blood through the body. The blood carries oxygen from the lungs to the muscles and the "
    "brain. When we run, the heart beats faster, because the muscles need more oxygen.",
)


def _cut(passage: str) -> list[Request]:
    """The passage up to each of its cuts, which lie evenly."""
    words = passage.split(" ")
    step = (len(words) - _LEAST_WORDS) // _CUTS
    ends = range(_LEAST_WORDS, _LEAST_WORDS + _CUTS * step, step)
    return [Request(" ".join(words[:end]), ANSWER_TOKENS) for end in ends]


REFERENCE = tuple(request for passage in _PASSAGES for request in _cut(passage))
"""Beginnings of plain passages, each to be gone on with by a few tokens."""
