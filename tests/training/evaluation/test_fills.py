import numpy as np

from vidunmask.training.evaluation.fills import EXTREMES, SHOWN, Gallery, Shown


def test_the_gallery_keeps_the_best_the_worst_and_a_spread():
    gallery = Gallery(every=4)
    scores = np.random.default_rng(0).permutation(100)
    for score in scores.tolist():
        gallery.add(float(score), lambda score=score: Shown([], str(score)))
    assert [int(shown.caption) for shown in gallery.best] == list(range(99, 99 - EXTREMES, -1))
    assert [int(shown.caption) for shown in gallery.worst] == list(range(EXTREMES))
    assert [int(shown.caption) for shown in gallery.sheet] == scores[::4][:SHOWN].tolist()
