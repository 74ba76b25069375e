"""Self-supervised learning on radiographs with PyTorch Lightning.

Tensors carry their axes in their names; this is the glossary:

====== =========================================== ====== ==========================================
suffix axis                                        suffix axis
====== =========================================== ====== ==========================================
B      films in a batch                            L      patches of a film, L = h * w
C      channels of an image                        V      visible patches
H W    height and width in pixels                  M      hidden (masked) patches
h w    height and width of a network's grid        P      pixels of a patch, P = C * patch height * patch width
D      width of the backbone                       K      classes
E      width of the decoder                        N      samples of a whole split
====== =========================================== ====== ==========================================
"""

__version__ = "0.1.0"
