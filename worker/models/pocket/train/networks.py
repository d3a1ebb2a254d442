"""Shapes of the three networks and of the noise schedule."""

from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel
import torch

from bpe import POSITIONS
from latents import CHANNELS, GRID

WIDTH = 128  # of the text encoder's states
HEADS = 4
UNET_WIDTHS = (64, 128, 224)
CODEC_WIDTH = 32
# The decoder's tanh(x/3)·3 squeezes large values: it is fed half the latents.
SCALING_FACTOR = 2.0


def make_unet() -> UNet2DConditionModel:
    """The denoiser on GRID×GRID latents; text reaches its two finer levels."""
    unet = UNet2DConditionModel(
        sample_size=GRID,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=UNET_WIDTHS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=32,
        use_linear_projection=True,
    )
    # Residual branches and the output begin at zero: the untrained network is
    # a smooth function, and the first steps are not spent undoing noise.
    for name, parameter in unet.named_parameters():
        if "conv2." in name or name.startswith("conv_out"):
            torch.nn.init.zeros_(parameter)
    return unet


def make_text_encoder(vocabulary: int) -> CLIPTextModel:
    """A CLIP text encoder of two layers; ids end with the two markers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            max_position_embeddings=POSITIONS,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def make_autoencoder() -> AutoencoderTiny:
    """Five levels: 128 px down to 8×8 and back."""
    return AutoencoderTiny(
        in_channels=3,
        out_channels=3,
        latent_channels=CHANNELS,
        encoder_block_out_channels=(CODEC_WIDTH,) * 5,
        decoder_block_out_channels=(CODEC_WIDTH,) * 5,
        num_encoder_blocks=(1, 1, 1, 1, 2),
        num_decoder_blocks=(3, 2, 2, 1, 1),
        scaling_factor=SCALING_FACTOR,
    )


def make_schedule() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
