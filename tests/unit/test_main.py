"""What a defect that ends a command may say."""

import pytest

from processor.cli import main
from processor.errors import Defect


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Defect("PostgreSQL refuses a statement of ours: SQLSTATE 42703"), "a defect, PostgreSQL refuses a statement"),
        (KeyError("hunter2"), "a defect, KeyError at the place above"),
    ],
)
def test_a_defect_shows_its_own_sentence_and_no_text_of_others(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(main, "build", lambda arguments: failing)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 70
    shown = capsys.readouterr().err
    assert said in shown
    assert "failing" in shown  # where it came from
    assert "hunter2" not in shown
