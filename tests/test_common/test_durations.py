from napari_tokensparse.common.durations import duration


def test_times_are_written_as_a_person_reads_them() -> None:
    assert [duration(s) for s in (0, 59.4, 90, 3599, 3600, 86400)] == [
        "0 s",
        "59 s",
        "2 min",
        "1 h 0 min",
        "1 h 0 min",
        "24 h 0 min",
    ]
