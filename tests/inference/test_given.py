"""A segmentation that was given, beside a network that thinks otherwise."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from deepedit.inference.given import agreement
from deepedit.inference.session import InteractiveSession
from deepedit.network.checkpoint import Model
from deepedit.network.unet import UNetConfig
from tests.obedient import obedient_model


class Opinion(nn.Module):
    """Says what the image shows, whatever was clicked, as sure as it was made; the image's values are classes."""

    def __init__(self, certainty):
        super().__init__()
        self.config = UNetConfig(filters=(1, 1), strides=(1, 1), kernels=(1, 1))
        self.head = nn.Conv3d(1, 1, 1)
        self.certainty = certainty

    def forward(self, x):
        classes = (2 * x[:, 0].float()).round().long()
        return self.certainty * nn.functional.one_hot(classes, 3).movedim(-1, 1).float()


@pytest.mark.parametrize(("certainty", "overruled"), [(3.0, False), (20.0, True)])
def test_a_good_segmentation_is_overruled_near_clicks_or_where_the_network_is_sure(certainty, overruled):
    opinion = np.zeros((24, 24, 24), np.uint8)
    opinion[3:20, 3:20, 3:20] = 1
    given = np.zeros((24, 24, 24), np.uint8)
    given[4:20, 4:20, 3:20] = 1
    model = obedient_model()
    model = Model(Opinion(certainty).eval(), dataclasses.replace(model.plan, patch_size=(24, 24, 24)))
    session = InteractiveSession(model, amp="off")
    session.set_image(opinion)
    session.set_segmentation(given)
    session.add_click((3, 12, 12), "left")
    result = session.predict()
    assert result[3, 10:15, 10:15].all()
    assert bool(result[12, 3, 3]) == overruled
    session.undo()
    assert_array_equal(session.predict(), given)


def test_a_segmentation_that_the_network_finds_wrong_is_replaced():
    opinion = np.zeros((16, 16, 16), np.uint8)
    opinion[2:14, 2:14, 2:6] = 1
    given = np.zeros((16, 16, 16), np.uint8)
    given[2:14, 2:14, 10:14] = 1
    session = InteractiveSession(Model(Opinion(3.0).eval(), obedient_model().plan), amp="off")
    session.set_image(opinion)
    session.set_segmentation(given)
    session.add_click((3, 3, 3), "left")
    assert_array_equal(session.predict(), opinion)


def test_agreement_is_the_dice_of_what_is_labelled_alike():
    one, other = torch.tensor([0, 1, 1, 2, 2]), torch.tensor([1, 1, 1, 1, 2])
    assert agreement(one, other) == pytest.approx(2 * 3 / (4 + 5))
    assert agreement(one, one) == 1
    assert agreement(torch.zeros(3), torch.zeros(3)) == 1
