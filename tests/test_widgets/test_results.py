import gc

import pytest
from napari.utils._proxies import PublicOnlyProxy

from napari_tokensparse.widgets.results import results_of

pytestmark = pytest.mark.gui


def test_all_widgets_of_a_viewer_share_one_result_for_as_long_as_it_is_open(make_napari_viewer):
    viewer = make_napari_viewer()
    first = results_of(PublicOnlyProxy(viewer))  # as napari hands it to a plugin's widget
    gc.collect()
    assert results_of(PublicOnlyProxy(viewer)) is first
    assert results_of(viewer) is first


def test_viewers_do_not_share(make_napari_viewer):
    assert results_of(make_napari_viewer()) is not results_of(make_napari_viewer())
