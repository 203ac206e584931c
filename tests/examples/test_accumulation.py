"""The example runs and learns."""

from examples.accumulation_by_hand import main


def test_accumulation_by_hand(capsys):
    assert main(epochs=2, samples=500) < 2.3
    assert capsys.readouterr().out.startswith("epoch 1: loss")
