"""PPO that learns Boxing, or another game, in the imagined game alone and is then tested in the real one.

    python examples/ppo_boxing.py --device cuda                      2 million imagined frames, minutes on a GPU
    python examples/ppo_boxing.py --device cuda --real --out runs/ppo_real      the same steps in the real game
    python examples/ppo_boxing.py --out runs/ppo --beside runs/ppo_real         both in one table and picture
    python examples/ppo_boxing.py --frames 100000 --num-envs 16 --denoising 1   about an hour on two CPU cores
    python examples/ppo_boxing.py take_cover --reward-scale 0.05 --device cuda --out runs/ppo_doom      another world
    python examples/ppo_boxing.py carracing --openings data/carracing --device cuda     short episodes from a recording

Both games give the same frames, of which 4 are seen at once. In a game whose action is a vector the policy chooses
among those that its adapter names (`Game.choices`). The test needs the real game: pip install "worldsim[atari,eval]".
A run that was ended goes on from its last checkpoint, with new episodes; with --test the policy in OUT/policy is
tested as it is. The policy in OUT/policy plays elsewhere too:
worldsim record boxing --agent runs/ppo/policy.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from torch import nn
from torch.distributions import Categorical
from tqdm import tqdm

from worldsim.arguments import positive
from worldsim.cli import one_line
from worldsim.info import world_facts
from worldsim.sampler import NOMINAL_STEPS
from worldsim.world_model import WorldModel
from worldsim_envs.games import game_class, source_game
from worldsim_envs.pixel_policy import PixelPolicy, PolicyConfig
from worldsim_envs.real import RealEnv
from worldsim_envs.vector import WorldVectorEnv
from worldsim_training import checkpoint
from worldsim_training.collect import play_returns
from worldsim_training.dataset import Recording
from worldsim_training.episodes import read_meta
from worldsim_training.recorded_starts import recorded_starts

COUNTS = (
    *("frames", "num_envs", "rollout", "epochs", "minibatches"),
    *("stack", "dim", "episode_steps", "moments", "branch_steps"),
)
"""Settings that are whole numbers from 1."""
KEEP_EVERY = 20
"""Updates between two checkpoints."""


@dataclass(frozen=True)
class Config:
    """A run; what is not in it does not change the policy. Defaults suit one GPU."""

    world: str = "boxing"
    """A shipped world or a folder."""
    real: bool = False
    """Train in the real game instead."""
    game: str = "boxing"
    """The real game's adapter."""
    frames: int = 2_000_000
    num_envs: int = 128
    rollout: int = 64
    """Steps of each environment between two updates."""
    epochs: int = 4
    minibatches: int = 8
    learning_rate: float = 5e-4
    """At the start; it falls to 0 in a straight line."""
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.1
    entropy: float = 0.01
    value: float = 0.5
    max_norm: float = 0.5
    reward_scale: float = 1.0
    """What the policy learns from is the game's reward times this; returns of some tens suit the other settings."""
    stack: int = 4
    """Frames seen at once."""
    dim: int = 512
    denoising: int = 2
    """Denoising steps of an imagined frame."""
    episode_steps: int = 1800
    openings: str = ""
    """A recording of the game, at whose moments imagined episodes begin; none: the world's start states."""
    moments: int = 512
    """How many of them. Each keeps some MB of memory on the device."""
    branch_steps: int = 100
    """Steps of an imagined episode that begins at such a moment."""
    seed: int = 0


def main() -> None:
    """Train, test, write OUT/curve.json, OUT/policy, OUT/result.json and OUT/curves.png, print the table."""
    config, args = read_arguments()
    if args.test:
        config = trained_as(args.out / "policy")
    else:
        # First of all, because the real game's processes are forked, which a GPU in use does not survive.
        try:
            worlds = (Real if config.real else Imagined)(config, args.device)
        except (ValueError, OSError, ImportError, RuntimeError) as error:  # torch's, where there is no such device
            raise SystemExit(f"ppo_boxing: {one_line(error)}") from None
        args.out.mkdir(parents=True, exist_ok=True)
        try:
            train(config, worlds, args.out, args.device).save_pretrained(args.out / "policy", facts=asdict(config))
        finally:
            worlds.env.close()
    result = test(args.out / "policy", config, args.episodes)
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    runs = [args.out, *args.beside]
    print(table(runs))
    if learnt := [run for run in runs if (run / "curve.json").exists()]:
        draw(learnt, args.out / "curves.png")


# --- the games ---


class Imagined:
    """The batched world, which keeps frames on its device."""

    def __init__(self, config: Config, device: str) -> None:
        model, limit = WorldModel.from_pretrained(config.world, device=device), config.episode_steps
        if config.openings:
            recording, limit = Recording.load(config.openings, "train"), config.branch_steps
            model.starts = recorded_starts(recording, config.moments, model.info.window_frames, config.seed)
        how = {"steps": config.denoising, "autoreset_mode": AutoresetMode.SAME_STEP, "max_episode_steps": limit}
        self.env = WorldVectorEnv(config.num_envs, model, **how)

    def reset(self, seed):
        """Frames (N, 3, H, W) uint8."""
        return self.env.reset_tensor(seed=seed)[0]

    def step(self, actions):
        """Frames, rewards, terminated, truncated, and the frames that ended episodes closed with, for the game's own
        actions, an array of N."""
        frames, rewards, terminated, truncated, infos = self.env.step_tensor(actions)
        return frames, rewards, terminated, truncated, infos.get("final_obs", frames)


class Real:
    """As many real games, each in a process of its own."""

    def __init__(self, config: Config, device: str) -> None:
        kind, limit = config.game, config.episode_steps
        makers = [lambda: RealEnv(kind, max_episode_steps=limit)] * config.num_envs
        self.env, self.device = AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP), device

    def reset(self, seed):
        """As `Imagined.reset`."""
        return self._frames(self.env.reset(seed=seed)[0])

    def step(self, actions):
        """As `Imagined.step`."""
        frames, rewards, terminated, truncated, infos = self.env.step(actions)
        final = frames.copy()
        for i in np.flatnonzero(terminated | truncated):
            final[i] = infos["final_obs"][i]
        numbers = [torch.as_tensor(each, device=self.device) for each in (rewards, terminated, truncated)]
        return self._frames(frames), numbers[0].float(), *numbers[1:], self._frames(final)

    def _frames(self, frames):
        return torch.from_numpy(frames).permute(0, 3, 1, 2).to(self.device)


# --- PPO (Schulman et al. 2017; details as in CleanRL's ppo_atari) ---


def train(config: Config, worlds, out: Path, device: str) -> PixelPolicy:
    """The policy after all updates; each writes a row of the curve and now and then a checkpoint."""
    torch.manual_seed(config.seed)
    policy = PixelPolicy(sizes(config, worlds)).to(device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate, eps=1e-5)
    batch = config.num_envs * config.rollout
    updates = max(1, config.frames // batch)
    first, curve, seconds = resume(out, config, policy, optimizer)
    if first == updates:
        return policy
    scores = Scores(config.num_envs, device)
    seen = worlds.reset(config.seed * 1_000_000 + first).repeat(1, config.stack, 1, 1)
    started = time.monotonic() - seconds
    for update in tqdm(range(first, updates), initial=first, total=updates, unit="update"):
        torch.manual_seed(config.seed * 1_000_000 + update)  # so that a run that goes on draws what it would have drawn
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - update / updates)
        seen, data = collect(config, worlds, policy, seen, scores)
        row = {"frames": (update + 1) * batch, **scores.take(), **learn(config, policy, optimizer, data)}
        curve.append(row | {"seconds": round(time.monotonic() - started, 1)})
        if (update + 1) % KEEP_EVERY == 0 or update + 1 == updates:
            keep(out, config, policy, optimizer, update + 1, curve)
    return policy


def sizes(config: Config, worlds) -> PolicyConfig:
    """A policy for the frames and the actions of a game."""
    height, width, _ = worlds.env.single_observation_space.shape
    natives = game_class(config.game).natives()
    choices = tuple(map(tuple, natives.tolist())) if natives.ndim == 2 else ()
    return PolicyConfig(height, width, len(natives), config.stack, config.dim, choices)


@torch.no_grad()
def collect(config: Config, worlds, policy: PixelPolicy, seen, scores):
    """Play one rollout: the frames seen at its end, and (T * N, ...) observations, actions, log-odds, advantages,
    returns."""
    rows = []
    for _ in range(config.rollout):
        logits, values = policy(seen)
        odds = Categorical(logits=logits)
        actions = odds.sample()
        natives = policy.config.natives(actions.cpu().numpy())
        frames, rewards, terminated, truncated, final = worlds.step(natives)
        done = terminated | truncated
        scores.add(rewards, done)
        rewards = config.reward_scale * rewards
        if truncated.any():  # the episode would have gone on: its last frame is worth what the policy thinks
            cut = (truncated & ~terminated).nonzero().squeeze(1)
            ends = torch.cat([seen[cut, 3:], final[cut]], dim=1)
            rewards = rewards.index_add(0, cut, config.gamma * policy(ends)[1])
        rows.append((seen, actions, odds.log_prob(actions), values, rewards, done))
        later = torch.cat([seen[:, 3:], frames], dim=1)
        seen = torch.where(done[:, None, None, None], frames.repeat(1, config.stack, 1, 1), later)
    observations, actions, log_odds, values, rewards, done = (torch.stack(each) for each in zip(*rows, strict=True))
    advantages = advantage(rewards, values, done, policy(seen)[1], config)
    return seen, [each.flatten(0, 1) for each in (observations, actions, log_odds, advantages, advantages + values)]


def advantage(rewards, values, done, last_value, config: Config):
    """Generalised advantage estimates (T, N) (Schulman et al. 2016, eq. 16)."""
    advantages, running = torch.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(values) else last_value
        goes_on = (~done[t]).float()
        surprise = rewards[t] + config.gamma * goes_on * following - values[t]
        running = surprise + config.gamma * config.gae_lambda * goes_on * running
        advantages[t] = running
    return advantages


def learn(config: Config, policy: PixelPolicy, optimizer, data) -> dict[str, float]:
    """Change the policy by one update over a rollout; what it tells of itself."""
    observations, actions, log_odds, advantages, returns = data
    told = []
    for _ in range(config.epochs):
        for part in torch.randperm(len(actions), device=actions.device).chunk(config.minibatches):
            logits, values = policy(observations[part])
            odds = Categorical(logits=logits)
            ratio = (odds.log_prob(actions[part]) - log_odds[part]).exp()
            gain = (advantages[part] - advantages[part].mean()) / (advantages[part].std() + 1e-8)
            clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
            surrogate = -torch.minimum(gain * ratio, gain * clipped).mean()
            value_loss, entropy = 0.5 * (values - returns[part]).square().mean(), odds.entropy().mean()
            loss = surrogate + config.value * value_loss - config.entropy * entropy
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(policy.parameters(), config.max_norm, error_if_nonfinite=True)
            optimizer.step()
            told.append(torch.stack([surrogate, value_loss, entropy, norm]).detach())
    means = torch.stack(told).mean(dim=0).tolist()
    return dict(zip(("policy_loss", "value_loss", "entropy", "gradient_norm"), means, strict=True))


class Scores:
    """The scores of episodes as they end in the game that is learnt in, and the reward of every step."""

    def __init__(self, worlds: int, device: str) -> None:
        self.running = torch.zeros(worlds, device=device)
        self.ended, self.rewards = [], []

    def add(self, rewards, done) -> None:
        """Change the scores by one step."""
        self.running += rewards
        self.rewards.append(rewards.mean())
        self.ended.append(self.running[done])
        self.running = self.running.masked_fill(done, 0.0)

    def take(self) -> dict[str, float | None]:
        """Since the last call: mean score of ended episodes, None where none ended, and mean reward of 1000 steps."""
        ended, rewards = torch.cat(self.ended), torch.stack(self.rewards)
        self.ended, self.rewards = [], []
        score = ended.mean().item() if len(ended) else None
        return {"score": score, "reward_1000_steps": 1000 * rewards.mean().item()}


# --- keeping and going on ---


def keep(out: Path, config: Config, policy: PixelPolicy, optimizer, update: int, curve: list) -> None:
    """Write the checkpoint whole, and the curve for people."""
    tensors = checkpoint.pack("policy", policy.state_dict())
    tensors |= checkpoint.pack("adam", checkpoint.pack_adam(policy, optimizer))
    checkpoint.save(
        out / "checkpoint.safetensors", tensors, {"config": asdict(config), "update": update, "curve": curve}
    )
    (out / "curve.json").write_text(json.dumps(curve, indent=1) + "\n")


def resume(out: Path, config: Config, policy: PixelPolicy, optimizer) -> tuple[int, list, float]:
    """Change policy and optimiser to what they were: updates done, the curve so far, seconds it took."""
    path = out / "checkpoint.safetensors"
    if not path.is_file():
        return 0, [], 0.0
    tensors, notes = checkpoint.load(path)
    known = asdict(Config()) | notes["config"]
    if other := [key for key, value in asdict(config).items() if known[key] != value]:
        raise SystemExit(f"{out} holds a run with another {', '.join(other)}; choose another --out")
    policy.load_state_dict(checkpoint.unpack("policy", tensors))
    checkpoint.unpack_adam(policy, optimizer, checkpoint.unpack("adam", tensors))
    return notes["update"], notes["curve"], notes["curve"][-1]["seconds"]


def trained_as(policy: Path) -> Config:
    """The run that left a policy in that folder; its game and its settings are those of the test."""
    facts = json.loads((policy / "policy.json").read_text())["facts"]
    return Config(**{name: facts.get(name, usual) for name, usual in asdict(Config()).items()})


# --- the test in the real game ---


def test(policy: Path, config: Config, episodes: int) -> dict:
    """Scores of whole episodes of the real game: the policy's and random play's, from the same openings."""
    game, seeds = game_class(config.game), [(999, config.seed, i) for i in range(episodes)]
    scores, chance = (play_returns(game, each, seeds, config.episode_steps) for each in (str(policy), "random"))
    return {"config": asdict(config), "episodes": episodes, "scores": scores, "random_scores": chance}


def table(runs: list[Path]) -> str:
    """Every finished run's score in the real game, beside random play: means with 95 % intervals over episodes."""
    lines = ["| trained in | frames | real score | 95 % | random | gain |", "|---|---|---|---|---|---|"]
    for run in runs:
        result = json.loads((run / "result.json").read_text())
        scores, chance = np.array(result["scores"]), np.array(result["random_scores"])
        draws = np.random.default_rng(0).choice(scores, (2000, len(scores))).mean(axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        where = "the real game" if result["config"]["real"] else "the imagined game"
        cells = (where, result["config"]["frames"], f"{scores.mean():+.1f}", f"[{low:+.1f}, {high:+.1f}]")
        lines.append(
            "| " + " | ".join(map(str, (*cells, f"{chance.mean():+.1f}", f"{(scores - chance).mean():+.1f}"))) + " |"
        )
    return "\n".join(lines)


def draw(runs: list[Path], path: Path) -> None:
    """Write a PNG: reward while learning, each run in the game it learnt in, and entropy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for run in runs:
        curve = json.loads((run / "curve.json").read_text())
        frames = [row["frames"] for row in curve]
        for axes, key in zip(panels, ("reward_1000_steps", "entropy"), strict=True):
            axes.plot(frames, [row[key] for row in curve], label=run.name)
            axes.set(xlabel="frames", title=key.replace("_", " "))
    panels[0].legend()
    figure.savefig(path, dpi=120)


def check_openings(args: argparse.Namespace) -> None:
    """ValueError or OSError in one line where the recording of --openings is not there or is of another game."""
    if args.openings:
        seen, wanted = read_meta(Path(args.openings), args.game)["game"], game_class(args.game).name
        if seen != wanted:
            raise ValueError(f"{args.openings} is a recording of {seen}; {args.world} imagines {wanted}")


def read_arguments() -> tuple[Config, argparse.Namespace]:
    """The run, and where and how it is carried out."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("world", nargs="?", default=Config.world, help="a shipped world or a folder")
    parser.add_argument("--real", action="store_true", help="train in the real game instead")
    parser.add_argument("--game", help="the real game's adapter (default: the one of the world's game)")
    for name, value in asdict(Config()).items():
        if name not in ("world", "real", "game"):
            kind = positive(int) if name in COUNTS else type(value)
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value, help=f"default: {value}")
    parser.add_argument("--out", type=Path, default=Path("runs/ppo"), help="folder of the run (default: runs/ppo)")
    parser.add_argument(
        "--beside", type=Path, nargs="*", default=[], help="finished runs for the table and the picture"
    )
    parser.add_argument("--episodes", type=positive(int), default=100, help="real games of the test (default: 100)")
    parser.add_argument("--test", action="store_true", help="only test the policy in OUT/policy")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    args = parser.parse_args()
    if args.real and args.openings:
        parser.error("--openings are for the imagined game, not for --real")
    if args.denoising not in NOMINAL_STEPS:
        parser.error(f"--denoising is one of {', '.join(map(str, NOMINAL_STEPS))}")
    if args.num_envs * args.rollout < 2 * args.minibatches:
        parser.error("--minibatches of at least 2 steps are needed; give fewer of them, or a longer --rollout")
    if args.test and not (args.out / "policy" / "policy.json").is_file():
        parser.error(f"{args.out} holds no policy to test; train one without --test")
    try:
        if not (args.real and args.game):
            imagined = source_game(world_facts(args.world)["source game"], args.game)
            args.game = args.game or imagined.name
        check_openings(args)
        if not args.test:
            game_class(args.game).natives()  # a game that names none cannot be learnt
    except (ValueError, OSError) as error:
        parser.error(str(error))
    given = {name: vars(args)[name] for name in asdict(Config())}
    return Config(**given), args


if __name__ == "__main__":
    main()
