from __future__ import annotations

import numpy as np
import pytest
import torch

from momentret.errors import ConfigError, MismatchError
from momentret.search.hubness.arrays import top_k
from momentret.search.hubness.index import CertifiedSearch, HubCorrectedIndex
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.rows import ProductRows
from tests.search.hubness_helpers import world

faiss = pytest.importorskip("faiss")
MADE = world(80, 400)
QUERY_BANK = ProductRows(MADE["bank_text"], MADE["video"])
GALLERY_BANK = ProductRows(MADE["bank_video"], MADE["video"])


def dense(method: str, k: int = 10, **options) -> np.ndarray:
    hub = HubnessNormaliser(method=method, beta_query=30.0, beta_gallery=5.0, shrink=1.0, **options)
    scores = hub.fit(QUERY_BANK, GALLERY_BANK).transform(MADE["text"] @ MADE["video"].T)
    return top_k(torch.from_numpy(scores), k)[1].numpy()


@pytest.mark.parametrize("mode", ["raw", "is", "gis", "dis", "dualis", "dualdis"])
def test_one_index_serves_every_method(mode: str) -> None:
    hub = HubnessNormaliser(method="dualdis", beta_query=30.0, beta_gallery=5.0, shrink=1.0)
    index = HubCorrectedIndex(MADE["video"], hub.fit(QUERY_BANK, GALLERY_BANK))
    places, _ = index.search(MADE["text"], 10, mode)
    np.testing.assert_array_equal(places, dense(mode))


def test_the_score_is_the_corrected_similarity() -> None:
    hub = HubnessNormaliser(method="is").fit(QUERY_BANK)
    places, scores = HubCorrectedIndex(MADE["video"], hub).search(MADE["text"] * 2, 5)
    corrected = hub.transform(MADE["text"] @ MADE["video"].T)
    np.testing.assert_allclose(scores, np.take_along_axis(corrected, places, 1), atol=1e-6)


def test_lists_of_an_untouched_index_grow_until_they_are_certain() -> None:
    hub = HubnessNormaliser(method="dis", beta_query=30.0, shrink=1.0).fit(QUERY_BANK)
    index = faiss.IndexFlatIP(256)
    index.add(MADE["video"])
    search = CertifiedSearch(index, MADE["video"], hub, low_share=0.1)
    places, _, certified = search.search(MADE["text"], 5, first=5)
    assert certified.all()
    np.testing.assert_array_equal(places, dense("dis", 5))
    once = search.search(MADE["text"], 5, first=5, exact=False)
    assert not once[2].all()
    np.testing.assert_array_equal(once[0][once[2]], places[once[2]])


def test_what_the_index_cannot_serve_is_refused() -> None:
    hub = HubnessNormaliser(method="is").fit(QUERY_BANK)
    with pytest.raises(ConfigError, match="needs a normaliser of method dualdis"):
        HubCorrectedIndex(MADE["video"], hub).search(MADE["text"], 5, "dualdis")
    with pytest.raises(ConfigError, match="not served"):
        HubCorrectedIndex(MADE["video"], hub).search(MADE["text"], 5, "csls")
    with pytest.raises(MismatchError, match="fitted for 80"):
        HubCorrectedIndex(MADE["video"][:7], hub)
    with pytest.raises(ConfigError, match="no bias per item"):
        HubCorrectedIndex(MADE["video"], HubnessNormaliser(method="gc").fit(QUERY_BANK))
