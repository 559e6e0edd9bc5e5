"""A network that keeps a list of what it was asked."""

from worldsim.models.dit import CausalDiT


class CountingDenoiser(CausalDiT):
    """The real network, with a list of what was asked of it."""

    @classmethod
    def of(cls, denoiser):
        denoiser.__class__, denoiser.calls = cls, []
        return denoiser

    def forward(self, x_t, sigma, action, cache):
        self.calls.append(("denoise", sigma.tolist()))
        return super().forward(x_t, sigma, action, cache)

    def commit(self, x_0, action, cache):
        self.calls.append(("commit", None if action is None else action.tolist()))
        super().commit(x_0, action, cache)
