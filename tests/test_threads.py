"""Threads: the libraries that are told how many to use."""

import sys
from types import ModuleType

import pytest
import torch
from threadpoolctl import threadpool_info

import torchmotif._threads as module
from torchmotif._threads import single_threaded


def _threads() -> list[int]:
    return [torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())]


def test_one_thread_within_and_as_before_after_it() -> None:
    before = _threads()
    for _ in range(2):  # the second time with the libraries that are known
        with single_threaded():
            assert set(_threads()) == {1}
        assert _threads() == before


def test_libraries_are_looked_for_again_where_another_module_was_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []
    look = module.ThreadpoolController

    def counted() -> object:
        looked.append(len(sys.modules))
        return look()

    monkeypatch.setattr(module, "ThreadpoolController", counted)
    module._libraries.cache_clear()
    for _ in range(2):
        with single_threaded():
            pass
    assert len(looked) == 1
    monkeypatch.setitem(sys.modules, "torchmotif_another", ModuleType("torchmotif_another"))
    with single_threaded():
        pass
    assert len(looked) == 2
    module._libraries.cache_clear()
