import sys

import pytest

from xrayssl import memory


def test_elsewhere_than_on_linux_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert memory.keep_freed_memory() is False
    assert "THP_MEM_ALLOC_ENABLE" not in memory.os.environ


@pytest.mark.parametrize("name", ["mallopt", "other"])
def test_without_the_call_of_glibc_it_says_that_nothing_was_done(monkeypatch, name):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    calls = []
    library = type("Library", (), {name: lambda self, *numbers: calls.append(numbers) or 1})()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(sys, "platform", "linux")
    assert memory.keep_freed_memory() is (name == "mallopt")
    assert calls == ([(-3, 2**30), (-1, 2**31 - 1)] if name == "mallopt" else [])


def test_a_choice_of_the_user_stands(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: None)
    memory.keep_freed_memory()
    assert memory.os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
