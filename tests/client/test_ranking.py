"""A ranking as the SDK and the command line show it."""

import pytest

from graft.cli import show
from graft.types import Report

RANKED = {
    "job_id": "job_1",
    "method": "rank_base_models",
    "base_model": "efficientnet_lite1",
    "evaluated_on": "test_split",
    "train_items": 80,
    "validation_items": 10,
    "held_out_items": 10,
    "ranking": {
        "items": 90,
        "folds": 90,
        "equal": [],
        "agreement": {"probe": 1.0},
        "sentence": "EfficientNet-Lite1 suits these data best.",
        "candidates": [
            {
                "base_model": "efficientnet_lite1",
                "title": "EfficientNet-Lite1",
                "rank": 1,
                "score": 0.955,
                "probe": 0.96,
                "knn": 0.95,
                "logme": -0.1,
                "h_score": 0.8,
                "seconds": 0.9,
                "items_per_second": 100.0,
                "memory_bytes": 3 * 2**20,
            },
            {"base_model": "vgg16_bn", "title": "VGG-16", "state": "skipped", "note": "Its weights are away."},
        ],
    },
}


def test_the_ranking_is_printed_with_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = Report.model_validate(RANKED)
    assert found.model_id is None
    show.report(found)
    out, err = capsys.readouterr()
    shown = " ".join((out + err).split())
    for said in ("efficientnet_lite1", "0.955", "-0.100", "10.0 s", "3.0 MiB", "suits these data best", "vgg16_bn"):
        assert said in shown
    assert "Its weights are away." in shown
    assert "Trained on" not in shown
