from vectors.load import capture, captures


def test_captures_are_all_there():
    assert len(captures()) == 94
    assert sum(len(recorded.messages) for recorded in captures()) > 300


def test_a_capture_holds_the_bytes_of_its_messages():
    recorded = capture("freerdp3.10-ntlm-v6")
    assert [(m.direction, len(m.data)) for m in recorded.messages] == [
        ("c2s", 93), ("s2c", 136), ("c2s", 453), ("s2c", 59), ("c2s", 131),
    ]  # fmt: skip
