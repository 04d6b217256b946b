from threading import Event, current_thread

import pytest
import torch

from napari_tokensparse.compute.memory import PeakMemory, memory_measured

CPU = torch.device("cpu")


def test_the_peak_is_what_was_held_at_once_each_time_anew() -> None:
    for _ in range(2):
        with PeakMemory(CPU) as memory:
            for _ in range(2):
                held = torch.ones(50_000_000)  # 200 MB
                del held
        assert memory.mb == pytest.approx(200, abs=20)
    with PeakMemory(CPU) as memory:
        pass
    assert memory.mb == pytest.approx(0, abs=20)


def test_what_small_blocks_left_behind_does_not_hide_the_next_peak() -> None:
    for _ in range(2):
        with PeakMemory(CPU) as memory:
            held = [torch.ones(10_000) for _ in range(2_500)]  # 100 MB
            pinned = held[-1]  # at the end of the heap, which so cannot shrink
            del held
        assert memory.mb == pytest.approx(100, abs=20)
        del pinned


def test_sampling_ends_with_an_error_too() -> None:
    memory = PeakMemory(CPU)
    with pytest.raises(KeyError), memory:
        raise KeyError
    assert not memory._sampling.is_alive()


def test_what_is_measured_is_told() -> None:
    assert memory_measured(CPU) == "peak growth of the process's resident memory"
    assert memory_measured(torch.device("cuda", 1)) == "peak allocated by torch on the GPU"


def test_it_may_end_in_its_own_thread_where_a_forgotten_generator_is_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = PeakMemory(torch.device("cpu"))
    ended, resident = Event(), PeakMemory._resident

    def collected(self: PeakMemory) -> int:
        if current_thread() is self._sampling and not ended.is_set():
            ended.set()
            self.__exit__(None, None, None)
        return resident(self)

    with monkeypatch.context() as patched:
        memory.__enter__()
        patched.setattr(PeakMemory, "_resident", collected)
        assert ended.wait(60)
        memory._sampling.join(10)
    assert not memory._sampling.is_alive()
