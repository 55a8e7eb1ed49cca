"""What single units do, literally: their top images and their maps over patches, float64, nested loops."""

import oracle
import torch


def top_images(model, images, count: int) -> list[list[tuple]]:
    """Per layer and unit the `count` best (value, image, token); of means over tokens the mean and the share > 0."""
    hidden, found = [oracle.forward(model, image)[1] for image in images], []
    for layer in range(model.config.depth):
        found.append([])
        for unit in range(model.config.mlp_dim):
            best, means = [], []
            for i, h in enumerate(hidden):
                values = h[layer][:, unit].tolist()
                best.append((max(values), i, values.index(max(values))))
                means.append(sum(values) / len(values))
            best.sort(key=lambda b: (-b[0], b[1]))
            found[-1].append((best[:count], sum(means) / len(means), sum(m > 0 for m in means) / len(means)))
    return found


def unit_map(model, image, layer, unit, side) -> list[list[float]]:
    """Over side × side patches: h of the patch's token, which are the last ones; of one token gradient × input."""
    x = image.clone().requires_grad_()
    h = oracle.forward(model, x)[1][layer][:, unit]
    if len(h) > 1:
        patches = h[len(h) - side * side :]
        return [[patches[i * side + j].item() for j in range(side)] for i in range(side)]
    (gradient,) = torch.autograd.grad(h[0], x)
    p, found = image.shape[-1] // side, [[0.0] * side for _ in range(side)]
    for c in range(3):
        for row in range(side * p):
            for column in range(side * p):
                found[row // p][column // p] += (image[c, row, column] * gradient[c, row, column]).item()
    return found
