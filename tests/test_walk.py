"""When silence means no match and when it means that something is missing; how the groups' answers become a result."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import wire
from pipeline.chunks import HeldPage, HeldWalk
from pipeline.errors import AnswerUnusable, GatewayFailed
from pipeline.models import ClassScore, DetailedScores, Failure, Page, Result, Unreadable, VideoAnswer
from pipeline.walk import GroupAnswer, failure_of, merged
from tests.builders import answer, scored

ASKED = ("a", "b", "c", "d")


def page(*video_ids: str, total: int | None, token: str | None = None, unreadable: Sequence[str | None] = ()) -> Page:
    entries = tuple(Unreadable(one, "no classes") for one in unreadable)
    return Page(tuple(answer(one) for one in video_ids), entries, total, token, 900.0 if token else None)


def body_of(one: Page) -> bytes:
    """A page as the spool holds it: bytes."""
    readable = [wire.encode_answer(video) for video in one.videos]
    broken = [
        b"{}" if entry.video_id is None else b'{"video_id":"%s"}' % entry.video_id.encode() for entry in one.unreadable
    ]
    return wire.encode_page(readable + broken, wire.PageInfo(10, one.total_results or 0, 900.0, one.next_token or ""))


# ------------------------------------------------------------------------------------------------- when it is complete


def shown(group: GroupAnswer) -> list[str]:
    """The videos that came with classes."""
    return sorted(video_id for video_id, answer in group.seen.items() if answer.classes)


def test_a_walk_is_complete_when_as_many_videos_came_as_it_announced() -> None:
    group = GroupAnswer(0, ASKED)
    assert (group.missing, group.settled) == (ASKED, False)

    group.take(page("c", total=2, token="t1"), 5.0)
    assert (group.complete, group.settled, group.missing) == (False, False, ("a", "b", "d"))
    assert (group.next_token, group.arrived_at) == ("t1", 5.0)

    group.take(page("a", total=2), 6.0)
    assert (group.complete, group.settled, group.ended_short, group.missing) == (True, True, False, ())
    assert (group.next_token, group.arrived_at) == (None, 6.0)
    assert group.seen == {"c": answer("c"), "a": answer("a"), "b": VideoAnswer("b", ()), "d": VideoAnswer("d", ())}


def test_an_empty_walk_is_complete_and_says_that_nothing_matched() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page(total=0), 1.0)
    assert (group.complete, group.missing, shown(group), group.failures) == (True, (), [], {})


def test_a_walk_that_ends_with_fewer_videos_than_announced_owes_the_rest() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("b", total=3), 1.0)
    assert (group.complete, group.ended_short, group.owing, group.missing) == (False, True, {"a", "c", "d"}, ())


def test_every_video_seen_is_settled_whatever_was_announced() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page(*ASKED, total=4, token="t1"), 1.0)
    assert (group.complete, group.settled, group.missing) == (False, True, ())


def test_a_walk_that_does_not_announce_its_videos_keeps_them_and_cannot_be_complete() -> None:
    group = GroupAnswer(0, ASKED)
    with pytest.raises(AnswerUnusable, match=r"^the answer does not say how many videos it has \(total_results\)$"):
        group.take(page("a", total=None), 1.0)
    assert (group.complete, group.missing) == (False, ("b", "c", "d"))


def test_after_a_restart_only_the_new_walks_videos_count_towards_its_announcement() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", "b", total=3, token="t1"), 1.0)
    group.begin_walk(group.missing)
    assert (group.next_token, group.missing) == (None, ("c", "d"))
    group.take(page("d", total=1), 2.0)
    assert (group.complete, shown(group)) == (True, ["a", "b", "d"])


# ---------------------------------------------------------------------------------------------------- contradictions


def test_a_video_that_was_not_asked_for_ends_the_walk_and_the_valid_ones_count() -> None:
    group = GroupAnswer(0, ASKED)
    with pytest.raises(AnswerUnusable, match=r"^the answer has videos that were not asked for, such as 'x'$"):
        group.take(page("a", "x", "b", "y", total=4), 1.0)
    assert (sorted(group.seen), group.complete) == (["a", "b"], False)


def test_a_video_on_two_pages_counts_once_the_first_time() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", total=2, token="t1"), 1.0)
    second = Page((answer("a", "CookTok"), answer("b")), (), 2)
    group.take(second, 2.0)
    assert (group.seen["a"], group.repeated, group.complete) == (answer("a"), ["a"], True)


def test_a_repeated_video_does_not_stand_for_one_that_is_missing() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", "a", total=2), 1.0)
    assert (group.complete, group.ended_short, group.missing) == (False, True, ())
    assert group.owing == {"b", "c", "d"}


def test_pages_that_go_round_in_a_circle_end_the_walk() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", total=4, token="t1"), 1.0)
    group.take(page("b", total=4, token="t2"), 1.0)
    with pytest.raises(AnswerUnusable, match=r"^a page token came twice in one walk: the pages go round in a circle$"):
        group.take(page("c", total=4, token="t1"), 1.0)
    assert group.missing == ("d",)


def test_a_new_walk_may_use_the_tokens_of_an_earlier_one() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", total=4, token="t1"), 1.0)
    group.begin_walk(group.missing)
    group.take(page("b", total=3, token="t1"), 1.0)
    assert group.next_token == "t1"


def test_a_circle_is_noticed_after_a_kill_too() -> None:
    """However the tokens of the held pages are remembered, the walk ends within one more round."""
    held = HeldWalk(0, (HeldPage(body_of(page("a", total=4, token="t1")), 1.0),), "t1")
    group = GroupAnswer(0, ASKED, [held])
    refused = 0
    for token in ["t2", "t1"] * 2:
        try:
            group.take(page(total=4, token=token), 2.0)
        except AnswerUnusable:
            refused += 1
    assert refused > 0


def test_more_videos_than_announced_end_the_walk() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", total=2, token="t1"), 1.0)
    with pytest.raises(AnswerUnusable, match=r"^3 videos came where 2 were announced$"):
        group.take(page("b", "c", total=2), 1.0)
    assert (group.complete, group.missing) == (False, ("d",))


# --------------------------------------------------------------------------------------------------- unreadable entries


def test_an_entry_that_cannot_be_read_fails_its_video_for_good_and_counts_as_shown() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", total=2, unreadable=["b"]), 1.0)
    assert group.complete
    message = "its answer cannot be read: no classes"
    assert group.failures == {"b": Failure("b", "unusable_answer", message, 200, retryable=False)}


@pytest.mark.parametrize("nobody", [None, "x"])
def test_an_unreadable_entry_of_nobody_makes_silence_worthless(nobody: str | None) -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("a", total=2, unreadable=[nobody], token="t1"), 1.0)
    with pytest.raises(AnswerUnusable, match=r"^the answer has an entry that cannot be read: no classes$"):
        group.take(page("b", total=2), 1.0)
    assert (group.complete, group.missing) == (False, ("c", "d"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (page(total=2, unreadable=["a"], token="t1"), page(total=2, unreadable=["a"])),
        (page(total=2, unreadable=["a"], token="t1"), page("a", total=2)),
        (page("a", total=2, token="t1"), page(total=2, unreadable=["a"])),
    ],
    ids=["unreadable twice", "then readable", "readable first"],
)
def test_a_video_whose_entries_cannot_all_be_read_does_not_stand_for_a_missing_one(first: Page, second: Page) -> None:
    group = GroupAnswer(0, ASKED)
    group.take(first, 1.0)
    with contextlib.suppress(AnswerUnusable):  # it may end the walk or not, but never makes it complete
        group.take(second, 1.0)
    assert not group.complete
    assert set(group.owed) == {"b", "c", "d"}


def test_giving_up_fails_what_is_missing_and_keeps_the_rest() -> None:
    group = GroupAnswer(0, ASKED)
    group.take(page("b", total=4, unreadable=["c"], token="t1"), 1.0)
    failed = group.fail_owed(GatewayFailed("a proxy lost it", http_status=502))
    assert (sorted(group.seen), sorted(group.failures), group.settled) == (["b"], ["a", "c", "d"], True)
    assert group.failures["a"] == Failure("a", "gateway_failed", "a proxy lost it", 502, retryable=True)
    again = GroupAnswer(0, ASKED, [failed])
    assert (again.failures, again.missing) == ({one: group.failures[one] for one in ("a", "d")}, ("b", "c"))


def test_what_was_paid_for_is_not_worth_asking_again() -> None:
    assert failure_of("a", AnswerUnusable("odd", http_status=200)).retryable is False
    assert failure_of("a", GatewayFailed("odd")).retryable is True


# ----------------------------------------------------------------------------------------------------- held answers


def test_a_held_walk_goes_on_where_it_stood() -> None:
    pages = (page("a", total=3, token="t1"), page("b", total=3, token="t2"))
    held = HeldWalk(1, tuple(HeldPage(body_of(one), at) for at, one in enumerate(pages, 7)), "t2")
    group = GroupAnswer(1, ASKED, [held])
    assert (sorted(group.seen), group.next_token, group.arrived_at) == (["a", "b"], "t2", 8)
    group.take(page("d", total=3), 9.0)
    assert (group.complete, group.missing) == (True, ())


def test_of_several_held_walks_the_last_one_counts_and_all_that_was_seen() -> None:
    first = HeldWalk(0, (HeldPage(body_of(page("a", "b", total=4, token="t1")), 1.0),), "t1")
    second = HeldWalk(0, (HeldPage(body_of(page("c", total=1)), 2.0),), complete=True)
    group = GroupAnswer(0, ASKED, [first, second])
    assert (group.complete, shown(group), group.missing) == (True, ["a", "b", "c"], ())


def test_a_flaw_on_a_held_page_is_not_forgotten() -> None:
    held = HeldWalk(0, (HeldPage(body_of(page("a", total=2, token="t1", unreadable=[None])), 1.0),), "t1")
    group = GroupAnswer(0, ASKED, [held])
    with pytest.raises(AnswerUnusable, match="cannot be read"):
        group.take(page("b", total=2), 2.0)


def test_the_newest_page_is_held_with_how_its_walk_stands() -> None:
    group = GroupAnswer(3, ASKED)
    group.take(page("a", total=2, token="t1"), 4.5)
    assert group.newest(b"body") == HeldWalk(3, (HeldPage(b"body", 4.5),), "t1")
    group.take(page("b", total=2), 5.5)
    assert group.newest(b"end") == HeldWalk(3, (HeldPage(b"end", 5.5),), complete=True)


def test_a_child_inherits_its_part_of_a_whole_answer_and_the_silence_in_it() -> None:
    parent = GroupAnswer(2, ASKED)
    parent.take(page("a", "c", total=2), 4.5)
    inherited = parent.inherited(("c", "d"))
    assert inherited is not None
    assert inherited == HeldWalk(2, inherited.pages)

    child = GroupAnswer(2, ("c", "d", "new"), [inherited])
    assert child.seen == {"c": answer("c"), "d": VideoAnswer("d", ())}
    assert (child.complete, child.ended_short, child.arrived_at, child.missing) == (False, False, 4.5, ("new",))


def test_a_child_inherits_what_a_walk_showed_that_owed_videos() -> None:
    parent = GroupAnswer(2, ASKED)
    parent.take(page("a", "c", total=3), 4.5)
    inherited = parent.inherited(("c", "d"))
    assert inherited is not None
    child = GroupAnswer(2, ("c", "d"), [inherited])
    assert (child.seen, child.owing, child.missing) == ({"c": answer("c")}, {"d"}, ())
    child.forgive()
    assert child.missing == ("d",)


def test_a_walk_for_some_of_the_videos_says_nothing_of_the_others() -> None:
    group = GroupAnswer(0, ASKED)
    group.begin_walk(("a", "b"))
    group.take(page("b", total=1), 4.5)
    held = group.newest(body_of(page("b", total=1)))
    assert held.asked == ("a", "b")
    for one in (group, GroupAnswer(0, ASKED, [held])):
        assert (one.seen, one.missing) == ({"a": VideoAnswer("a", ()), "b": answer("b")}, ("c", "d"))


def test_a_video_of_the_chunk_that_this_walk_did_not_ask_for_is_not_its_answer() -> None:
    group = GroupAnswer(0, ASKED)
    group.begin_walk(("a", "b"))
    with pytest.raises(AnswerUnusable, match="not asked for, such as 'c'"):
        group.take(page("b", "c", total=2), 4.5)
    assert group.missing == ("a", "c", "d")


def test_where_nothing_is_held_nothing_is_inherited() -> None:
    assert GroupAnswer(0, ASKED).inherited(ASKED) is None


@st.composite
def walks(draw: st.DrawFn) -> list[list[list[str]]]:
    """The matching videos in some order, cut into walks and those into pages."""
    matching = draw(st.permutations(ASKED).flatmap(lambda all_: st.integers(0, 4).map(lambda n: all_[:n])))
    ends = sorted(draw(st.lists(st.integers(0, len(matching)), max_size=5)))
    pages = [matching[start:stop] for start, stop in zip([0, *ends], [*ends, len(matching)], strict=True)]
    restarts = draw(st.lists(st.booleans(), min_size=len(pages) - 1, max_size=len(pages) - 1))
    split: list[list[list[str]]] = [[pages[0]]]
    for one, begins in zip(pages[1:], restarts, strict=True):
        if begins:
            split.append([])
        split[-1].append(one)
    return split


@given(walks(), st.lists(st.booleans(), min_size=6, max_size=6))
def test_any_split_into_pages_restarts_and_kills_shows_the_same(
    split: list[list[list[str]]], kills: list[bool]
) -> None:
    """After each page the process may be killed, and go on from what is spooled; each walk but the last is cut off."""
    matching = sorted(video_id for walk in split for part in walk for video_id in part)
    spool: list[HeldWalk] = []
    group = GroupAnswer(0, ASKED)
    number = 0
    for at, parts in enumerate(split):
        left = sum(len(part) for later in split[at:] for part in later)
        group.begin_walk(group.missing)
        for place, part in enumerate(parts):
            ends = at == len(split) - 1 and place == len(parts) - 1
            one = page(*part, total=left, token=None if ends else f"t{number}")
            group.take(one, float(number))
            newest = group.newest(body_of(one))
            held = () if place == 0 else spool.pop().pages
            spool.append(replace(newest, pages=held + newest.pages))
            if kills[number]:
                group = GroupAnswer(0, ASKED, spool)
            number += 1
    assert (shown(group), group.complete, group.ended_short) == (matching, True, False)
    assert (group.missing, group.failures, group.repeated) == ((), {}, [])


# --------------------------------------------------------------------------------------------------------- merging

ORDER = {"DanceTok": 0, "CookTok": 1, "SportTok": 2}


def plain(name: str, score: float) -> ClassScore:
    return ClassScore(name, score, 0.5)


def test_classes_come_in_the_order_of_the_config_and_unknown_ones_last() -> None:
    groups = [
        VideoAnswer("a", (plain("Odd", 9), plain("SportTok", 3))),
        None,
        VideoAnswer("a", (plain("CookTok", 2), plain("DanceTok", 1), plain("Even", 8))),
    ]
    result = merged("a", groups, ORDER, detailed=False)
    in_order = (("DanceTok", 1), ("CookTok", 2), ("SportTok", 3), ("Odd", 9), ("Even", 8))
    assert result == Result("a", tuple(plain(name, score) for name, score in in_order))


def test_a_class_that_comes_twice_counts_once_the_first_time() -> None:
    groups = [VideoAnswer("a", (plain("CookTok", 1), plain("CookTok", 2))), VideoAnswer("a", (plain("CookTok", 3),))]
    assert merged("a", groups, ORDER, detailed=False) == Result("a", (plain("CookTok", 1),))


@pytest.mark.parametrize("groups", [[None], [None, None], [VideoAnswer("a", ())]])
def test_nothing_matched_in_any_group(groups: list[VideoAnswer | None]) -> None:
    assert merged("a", groups, ORDER, detailed=True) == Result("a", ())


def test_shares_are_computed_anew_over_all_groups_in_the_order_of_the_classes() -> None:
    cook = ClassScore("CookTok", 33.35, 0.18, None, DetailedScores(37.63, 30.3, 100.0))
    dance = ClassScore("DanceTok", 37.83, 0.33, None, DetailedScores(40.44, 31.56, 100.0))
    result = merged("a", [VideoAnswer("a", (cook,)), VideoAnswer("a", (dance,))], ORDER, detailed=True)
    assert result.classes == (
        ClassScore("DanceTok", 37.83, 0.33, None, DetailedScores(40.44, 31.56, 53.14695139084012)),
        ClassScore("CookTok", 33.35, 0.18, None, DetailedScores(37.63, 30.3, 46.85304860915988)),
    )


def test_a_single_groups_shares_stay_as_they_were_sent() -> None:
    one = scored("DanceTok", 20)
    assert merged("a", [VideoAnswer("a", (one, scored("CookTok", 60)))], ORDER, detailed=True).classes[0] is one


def test_missing_shares_are_filled_in_and_only_where_they_are_asked_for() -> None:
    bare = VideoAnswer("a", (plain("DanceTok", 25), plain("CookTok", 75)))
    assert merged("a", [bare], ORDER, detailed=False).classes == bare.classes
    shares = [one.detailed_scores for one in merged("a", [bare], ORDER, detailed=True).classes]
    assert shares == [DetailedScores(None, None, 25.0), DetailedScores(None, None, 75.0)]
