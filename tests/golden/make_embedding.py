"""Results of scikit-learn for a set of points: principal components, bandwidths, t-SNE, silhouettes.

    python -m venv /tmp/embedding && /tmp/embedding/bin/pip install scikit-learn==1.7.2
    /tmp/embedding/bin/python tests/golden/make_embedding.py > tests/golden/embedding.json

The points are handwritten digits of four classes that come with scikit-learn, so that they have the shape of real
classes. t-SNE ends in one of many minima, and the last bits of its start decide in which: five starts say how far apart
those are.
"""

import json
import warnings

import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.manifold._utils import _binary_search_perplexity
from sklearn.metrics import silhouette_score

COUNT, PERPLEXITY, STARTS, SHOWN = 160, 30.0, 5, 12

warnings.filterwarnings("ignore")
points, labels = load_digits(n_class=4, return_X_y=True)
points, labels = points[:COUNT].astype(np.float32), labels[:COUNT]
pca = PCA(2, svd_solver="full")
plane = pca.fit_transform(points.astype(np.float64))
squared = squareform(pdist(points.astype(np.float64), "sqeuclidean")).astype(np.float32)
conditional = _binary_search_perplexity(squared, PERPLEXITY, 0)
start = plane / plane[:, 0].std() * 1e-4
layouts = []
for seed in range(STARTS):
    near = start + 1e-6 * np.random.RandomState(seed).randn(*start.shape)
    tsne = TSNE(2, perplexity=PERPLEXITY, method="exact", init=near.astype(np.float32), max_iter=1000)
    layouts.append((tsne.fit_transform(points), float(tsne.kl_divergence_)))


def rounded(values, digits):
    return [[float(f"{v:.{digits}g}") for v in row] for row in values]


print(json.dumps({
    "points": points.astype(int).tolist(),
    "labels": labels.tolist(),
    "pca": rounded(plane, 9),
    "explained": pca.explained_variance_ratio_.tolist(),
    "silhouette_pca": float(silhouette_score(plane.astype(np.float32), labels)),
    "perplexity": PERPLEXITY,
    "conditional": rounded(conditional[:SHOWN], 6),
    "tsne": rounded(layouts[0][0], 9),
    "divergences": [divergence for _, divergence in layouts],
    "silhouette_tsne": float(silhouette_score(layouts[0][0], labels)),
}, separators=(",", ":")))
