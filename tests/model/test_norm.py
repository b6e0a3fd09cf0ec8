"""The norm of training on a processor is torch's, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F

from mantus.model.norm import RMSNorm


@pytest.mark.parametrize(("precision", "near"), [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("shape", [(3, 7, 64), (2, 5, 4, 16), (0, 32), (1, 1, 8)])
def test_it_is_torchs_and_so_are_its_gradients(precision: torch.dtype, near: float, shape: tuple[int, ...]):
    torch.manual_seed(0)
    norm = RMSNorm(shape[-1], 1e-3)
    norm.weight.data.uniform_(0.5, 1.5)
    x = (torch.randn(shape) * 0.05 + 0.02).double()  # so small that eps counts, and with a mean
    slope = torch.randn(shape)
    ours, exact = (x.to(precision).to(kind).requires_grad_() for kind in (precision, torch.float64))
    weight = norm.weight.detach().to(precision).double().requires_grad_()
    found, wanted = norm(ours), F.rms_norm(exact, weight.shape, weight, norm.eps)
    assert found.dtype == precision
    found.backward(slope.to(precision))
    wanted.backward(slope.to(precision).double())
    for mine, theirs in ((found, wanted), (ours.grad, exact.grad), (norm.weight.grad, weight.grad)):
        assert float((mine.double() - theirs).detach().norm()) <= near * float(theirs.detach().norm())


def test_a_row_of_zeros_has_a_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    RMSNorm(8, 1e-6)(x).sum().backward()
    assert x.grad.isfinite().all()


def test_a_frozen_weight_gets_no_gradient():
    norm = RMSNorm(8, 1e-6).requires_grad_(False)
    x = torch.randn(2, 8, requires_grad=True)
    norm(x).sum().backward()
    assert norm.weight.grad is None
    assert x.grad is not None
