"""The training configuration: dataclasses that hydra composes and checks."""

from __future__ import annotations

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from worldsim_training.command_line import folder_name


@dataclass(frozen=True)
class ModelConfig:
    """The student's network; see `worldsim.models.dit.CausalDiT`."""

    dim: int = 256
    depth: int = 6
    heads: int = 4
    window: int = 16
    """Past frames that attention sees, in training as in play."""
    temporal_every: int = 2
    stem_kind: str = "conv"
    conv_widths: tuple[int, int] = (64, 128)
    previous_frame: bool = True


@dataclass(frozen=True)
class DataConfig:
    """The recordings."""

    folder: str = MISSING
    frames: int = 300_000
    """Recorded when the folder is missing; all splits together."""
    seed: int = 0
    episode_steps: int = 0
    """Cut every recorded episode after so many steps; 0: the game ends it."""
    policies: tuple[str, ...] = ()
    """Who plays, one an episode in turn: the game's own policies by name, trained ones by folder; none: all its own."""
    clip_frames: int = 32


@dataclass(frozen=True)
class ContextConfig:
    """How the frames that the network remembers are spoilt in training, so that it survives its own mistakes."""

    noise_share: float = 0.5
    """Share of clips whose context is noised, with its own noise, never the target's."""
    noise_max: float = 0.3
    """sigma of that noise is uniform in [0, noise_max]."""
    painted_share: float = 0.0
    """Share of clips whose context is what the network itself paints, beginning from real frames."""
    painted_sigmas: tuple[float, ...] = (1.0,)
    """Noise levels of the sampler that paints it."""
    painted_rounds: int = 1
    """At most so many times in a row, each from what was painted before; how many is uniform."""
    kept_share: float = 0.0
    """Share of clips whose frames, from one of them on, are remembered by what their last call left instead of by a
    commit; see `worldsim.world_info.WorldInfo.kept_sigma`."""
    kept_sigmas: tuple[float, float] = (0.25, 0.7)
    """Least and most noise level of those calls, one a clip; where the network paints, they are its own."""
    drifted_share: float = 0.0
    """Share of clips whose context, before it is painted, looks as play may look after long: colours too strong or too
    weak, too light or too dark, and edges too soft or too hard. What is asked for stays the real frame."""
    action_dropout: float = 0.1
    """Share of frames that see the null action."""


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation of one stage."""

    steps: int = MISSING
    seconds: float = 0.0
    """Budget that ends the stage before `steps`, the learning rate falling by time; 0: the steps decide."""
    batch: int = MISSING
    """Clips an update."""
    accumulate: int = 1
    """Micro-batches that an update's clips are split into evenly, one after another: less memory. The update follows
    the mean of their losses."""
    checkpoint_activations: bool = False
    """Keep no activations inside the transformer's blocks but work them out again for the gradient: less memory, about
    a third more time, the same result."""
    learning_rate: float = MISSING
    warmup: int = 200
    decay: float = 0.3
    """Last share of the steps, in which the rate falls to 0."""
    weight_decay: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.95
    clip_norm: float = 1.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_every: int = 500


@dataclass(frozen=True)
class TeacherForcingConfig:
    loop: LoopConfig = field(default_factory=LoopConfig)
    shift: float = 2.0
    """Noise levels are shifted(uniform): above 1, more of them are near pure noise."""
    pure_noise: float = 0.1
    """Share of frames at sigma = 1 exactly, where few-step generation starts."""
    weight_floor: float = 0.3


@dataclass(frozen=True)
class BidirectionalConfig(TeacherForcingConfig):
    """Stage 0, with the noise levels and weights of teacher forcing; the loop's defaults were never tuned."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, batch=16, learning_rate=1e-3))
    clean_start_share: float = 0.5
    """Share of clips whose first frames, 1 to all but one, are given clean, as a scorer gives the real ones."""


@dataclass(frozen=True)
class ConsistencyConfig:
    loop: LoopConfig = field(default_factory=LoopConfig)
    intervals: int = 48
    grid_shift: float = 2.0
    """Shift of the distillation grid; need not be the sampler's. The last interval biases the solver most, and a small
    shift shortens it."""
    solver: str = "euler"
    """Of the teacher's step along the path: euler, or heun, which shrinks samples less for one more pass of the
    teacher; its last interval is Euler's."""
    mean_share: float = 0.0
    """Share of frames at pure noise, where the student keeps answering its teacher's mean instead of a sample."""


@dataclass(frozen=True)
class OdeConfig:
    """Causal ODE distillation. An update takes about `intervals` passes of the teacher, against one in consistency
    distillation; the loop's defaults were never tuned."""

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=1000, batch=16, learning_rate=2e-4, ema=0.99, decay=0.5)
    )
    intervals: int = 24
    grid_shift: float = 2.0
    """As in consistency distillation. The step lists' own levels are added to the grid."""
    points: int = 2
    """Noise levels of the step lists, 1 to 4, at which a student's pass learns from one path."""


def _dmd_loop() -> LoopConfig:
    betas = {"beta_1": 0.0, "beta_2": 0.999}
    schedule = {"warmup": 25, "decay": 0.0, "ema": 0.99, "checkpoint_every": 125}
    return LoopConfig(steps=0, batch=32, learning_rate=1e-5, clip_norm=10.0, **betas, **schedule)


@dataclass(frozen=True)
class DmdConfig:
    """Distribution matching on self rollouts; see `worldsim_training.dmd`."""

    loop: LoopConfig = field(default_factory=_dmd_loop)
    """Steps are the critic's updates; while they are 0, the stage is left out."""
    critic_learning_rate: float = 5e-6
    critic_per_student: int = 5
    """The student moves at every so many steps."""
    context_frames: int = 8
    """Real frames in front of each rollout."""
    frames: int = 16
    """Imagined frames of each rollout."""
    student_steps: int = 2
    """1, 2 or 4, of the play that is trained; each rollout leaves its frames at a random one of them."""
    other_actions_share: float = 0.0
    """Share of clips imagined under another clip's actions."""
    scoring: str = "causal"
    """causal: no later frame or action is seen; bidirectional: whole clips are, by the network of stage 0."""
    w: float = 1.0
    """Guidance of the teacher towards the actions, u + w (c - u); 1 is none."""
    sigma_range: tuple[float, float] = (0.02, 0.98)
    """Noise levels at which rollouts are scored: uniform in it, then shifted as in play."""
    replay: str = "plain"
    """`self_gradient` trains what is written to memory, too."""
    weight_floor: float = 0.3
    """Of the critic's loss, as in teacher forcing."""
    paired_weight: float = 0.0
    """Weight of the mean squared error to the real frames under the recorded actions."""
    consistency_weight: float = 0.0
    """Weight of stage 2's loss on real clips."""
    evaluate_every: int = 25
    """Updates of the student between two scores on held-out clips; the best network is kept, the first included."""
    patience: int = 0
    """Such scores in a row without a better one that end the stage; 0: never."""


@dataclass(frozen=True)
class OutcomesConfig:
    loop: LoopConfig = field(default_factory=LoopConfig)
    width: int = 32
    lag: int = 1
    """Steps before the new frame of the earliest frame that the head is shown; see `worldsim.heads.OutcomeHead`. The
    first lag - 1 steps of an episode are not learnt."""
    reward_share: float = 0.4
    """Share of clips drawn around a reward."""
    end_share: float = 0.1
    """Share of clips drawn around the end of a game."""
    painted: bool = True
    """Two thirds of what the head sees are painted by the world; without, real frames alone, many times faster."""
    init: str | None = None
    """Folder of a head of the same game to go on from; fresh weights where not given."""


@dataclass(frozen=True)
class WorldConfig:
    """One world: the game, its network and its training."""

    name: str = MISSING
    game: str = MISSING
    shift: float = 2.0
    """Shift of the 1, 2 and 4-step lists in play."""
    single_sigma: float = 1.0
    """Level of the one-step list; a little below 1 with `consistency.mean_share`, which keeps the mean at 1."""
    default_steps: int = 2
    """1, 2 or 4: network calls a frame of a play that asks for no other number."""
    draws_ends: bool = False
    """Whether episodes end by chance, for a game whose end no frame shows; see `worldsim.world_info.WorldInfo`."""
    drawn_end_reward: float | None = None
    """What such an end pays; none: what the head reads off the frame."""
    final_rewards: tuple[float, ...] = ()
    """Rewards that end an episode in play, whatever the head thinks of its end."""
    kept_sigma: float = 0.0
    """Up to this noise level the last call of a frame is its memory in play; learnt with `context.kept_share`."""
    still_levels: int = 0
    """In play a pixel that changes by at most so many of 255 levels keeps its bytes; see `worldsim.world_info`."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    teacher_forcing: TeacherForcingConfig = field(default_factory=TeacherForcingConfig)
    bidirectional: BidirectionalConfig = field(default_factory=BidirectionalConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    ode: OdeConfig = field(default_factory=OdeConfig)
    distillation: str = "consistency"
    """Stage 2: consistency, ode or none; with none, stage 3 begins from teacher forcing."""
    dmd: DmdConfig = field(default_factory=DmdConfig)
    outcomes: OutcomesConfig = field(default_factory=OutcomesConfig)
    release: str = "distillation"
    """Whose network is shipped and painted for the outcome head: distillation (stage 2's) or dmd. Distribution matching
    buys sharpness and may cost accuracy, so that both stay candidates: compare their `validation.json` first."""
    starts: int = 16
    """Start states that are shipped, from the validation split."""
    start_policies: tuple[str, ...] = ()
    """Whose episodes they are moments of, by name; none: everybody's. Where random play wanders is a dull start."""
    init: str | None = None
    """Folder of a network to begin teacher forcing from, or `bidirectional`: this run's stage 0, which is then trained
    first. Fresh weights where not given."""


@dataclass(frozen=True)
class ValidationConfig:
    """How a stage's network is scored on held-out clips, in free-running play, when the stage is done."""

    clips: int = 32
    frames: int = 64
    """Frames imagined after the context."""
    teacher_steps: int = 16
    """Steps of the ODE sampler that plays the teacher-forced network."""


@dataclass(frozen=True)
class GatesConfig:
    """What a stage's network must show in its `validation.json` before the next stage begins; null leaves a gate out.

    Teacher forcing is judged as the ODE sampler plays it, the distilled stages at 2 steps. The figures leave room on
    purpose: they stop a run that went wrong, they do not choose between two that went well.
    """

    enabled: bool = True
    teacher_gain_db: float | None = 0.0
    """The teacher's gain 1 step ahead must lie above it: it predicts better than the last frame shown again."""
    teacher_response_levels: float | None = 0.1
    """Least change of the teacher's picture under another clip's actions, in levels of 0..255 over all pixels. A
    network that does not hear its actions has exactly 0."""
    gain_loss_db: float | None = 2.0
    """Most that a student's gain 1 step ahead may lie below its teacher's."""
    response_share: float | None = 0.6
    """Least response of a student to other actions, as a share of its teacher's."""
    motion: tuple[float, float] | None = (0.6, 1.6)
    """Least and most late motion, in shares of the real frames'; so for sharpness and saturation."""
    sharpness: tuple[float, float] | None = (0.7, 1.4)
    saturation: tuple[float, float] | None = (0.8, 1.25)
    drift_levels: float | None = 8.0
    """Most distance between the late frames' colours and the real ones', in levels."""


@dataclass(frozen=True)
class TrainingConfig:
    """`python -m worldsim_training`: every stage in turn, or one."""

    world: WorldConfig = field(default_factory=WorldConfig)
    stage: str | None = None
    """One of collect, bidirectional, teacher_forcing, consistency, ode, dmd, outcomes, export; else what is wanted."""
    out: str = MISSING
    """Folder of the run: checkpoints, logs, pictures and the finished world."""
    device: str = "auto"
    compile: bool = True
    """torch.compile, where a compiler is present."""
    graphs: bool = True
    """CUDA graphs for rollouts without gradient, on a GPU: DMD's own and those that are scored."""
    scale: str = "ddp"
    """How the processes of `torchrun` train a network together, each on its part of every batch: ddp, each with the
    whole network, or fsdp, each with a part of its weights, gradients and moments. A process alone does without."""
    stop_after_s: float = 0.0
    """Save and stop once the stages have taken that many seconds; the same command goes on. 0: never."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    validation_on_cpu: ValidationConfig = field(
        default_factory=lambda: ValidationConfig(clips=8, frames=32, teacher_steps=8)
    )
    """A CPU paints a few dozen frames a second: these take it about a minute."""
    gates: GatesConfig = field(default_factory=GatesConfig)


@dataclass(frozen=True)
class AblationConfig(TrainingConfig):
    """`python -m worldsim_training.ablation`: the settings of every run in it, and which runs there are."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the weights and of every stage's loop; the recording is one for all."""
    distillations: tuple[str, ...] = ("none", "ode", "consistency")
    """What distribution matching begins from; none is teacher forcing."""
    scorings: tuple[str, ...] = ("causal", "bidirectional")
    student_steps: tuple[int, ...] = (1, 2, 4)
    workers: int = 1
    """Seeds that are trained at a time, each in a process and, as far as they go, on a GPU of its own; 1 trains them
    here, one after another."""
    gates: GatesConfig = field(default_factory=lambda: GatesConfig(enabled=False))


@dataclass(frozen=True)
class ThroughputConfig:
    """`python -m worldsim_training.throughput`: how fast a stage trains, from fresh weights; nothing is kept of it."""

    world: WorldConfig = field(default_factory=WorldConfig)
    """Size of the network, batch and clips are those of the world: `world.model.dim=`,
    `world.teacher_forcing.loop.batch=`."""
    stage: str = "teacher_forcing"
    """One of teacher_forcing, consistency, dmd."""
    out: str = "throughput.json"
    """File of the figures; the profile is written beside it, as `.profile.txt`."""
    device: str = "auto"
    compile: bool = True
    graphs: bool = True
    """As in training."""
    recording: str | None = None
    """Folder of a recording to draw clips from; noise where not given, which takes as long."""
    warmup: int = 10
    """Updates before those that are timed: they compile, and choose and load kernels."""
    updates: int = 50
    """Updates that are timed. In dmd they are the critic's."""
    peak_tflops: float | None = None
    """The device's bf16 peak as its vendor gives it, without sparsity."""
    profile: bool = False
    """Then look at a few updates more and list the kernels that take most of their time."""


def schema(kind: type = TrainingConfig) -> DictConfig:
    """All settings with their types and defaults, still open for hydra to merge files and the command line into."""
    node = OmegaConf.structured(kind)
    _thaw(node)
    return node


def register() -> None:
    """Make the schemas known to hydra, so that unknown or mistyped keys are refused, and what names a job's folder."""
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    ConfigStore.instance().store(name="training_schema", node=schema())
    ConfigStore.instance().store(name="ablation_schema", node=schema(AblationConfig))
    ConfigStore.instance().store(name="throughput_schema", node=schema(ThroughputConfig))


def _thaw(node: DictConfig) -> None:
    """Change the node: undo the lock that OmegaConf puts on frozen dataclasses, at every depth."""
    OmegaConf.set_readonly(node, False)
    for key in node:
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
            _thaw(node[key])
