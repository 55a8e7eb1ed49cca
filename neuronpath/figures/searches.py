"""The figure of the study of searches and rules: agreement against cost."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .common import escaped


def plot_study(found: dict) -> Figure:
    """Agreement against cost: rules and auto by block passes (left), searches (right)."""
    figure = Figure(figsize=(10, 3.6 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 2, squeeze=False)
    for (left, right), (name, r) in zip(axes, found.items(), strict=True):
        _draw_rules(left, r)
        _draw_searches(right, r)
        left.set_title(f"{escaped(name)}: rules (layer search), n = {r['quadrature']['converged']}", fontsize=9)
        right.set_title(f"{escaped(name)}: searches, n = {r['layers']['images']}", fontsize=9)
        left.set_ylabel("whole paths equal to the converged one, %", fontsize=8)
        right.set_ylabel("whole paths equal to the exhaustive one, %", fontsize=8)
        for ax in (left, right):
            ax.set(xscale="log", xlabel="block passes per image")
            ax.grid(alpha=0.3)
    return figure


def _draw_rules(axes: Axes, r: dict) -> None:
    node = r["costs"]["layer, Gauss-Legendre 4"]["block_passes"] / 4
    for (rule, sizes), marker in zip(r["quadrature"]["rules"].items(), "osv^D", strict=True):
        free = 1 if rule in ("right", "gauss-radau") else 0  # α = 1
        passes = [node * (int(m) - free) for m in sizes]
        axes.plot(passes, [100 * agree for agree in sizes.values()], marker=marker, label=rule)
        for m, cost, agree in zip(sizes, passes, sizes.values(), strict=True):
            axes.annotate(m, (cost, 100 * agree), xytext=(3, -9), textcoords="offset points", fontsize=7)
    a = r["quadrature"]["auto"]
    axes.plot([node * a["mean_nodes"]], [100 * a["agree"]], "*", markersize=12, color="black", label="auto")
    axes.legend(fontsize=8)


def _draw_searches(axes: Axes, r: dict) -> None:
    for (search, path), marker in zip(r["paths"].items(), "osv", strict=True):
        cost = r["costs"][f"{search}, Gauss-Radau {4 if search == 'layer' else 2}"]["block_passes"]
        axes.plot([cost], [100 * path["agree"]], marker, markersize=9, label=f"{search}, mean JAS {path['jas']:.4f}")
    axes.legend(fontsize=8)
