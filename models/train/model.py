"""The Llama architecture in plain PyTorch, with the parameter names of Hugging Face checkpoints."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    vocab: int = 4096
    hidden: int = 256
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    inner: int = 768
    context: int = 1024
    rope_theta: float = 10000.0
    eps: float = 1e-5

    def config(self, bos: int, end: int, pad: int) -> dict:
        """config.json as transformers reads it."""
        return dict(
            architectures=['LlamaForCausalLM'], model_type='llama', vocab_size=self.vocab, hidden_size=self.hidden,
            intermediate_size=self.inner, num_hidden_layers=self.layers, num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads, head_dim=self.head_dim, max_position_embeddings=self.context,
            rope_theta=self.rope_theta, rms_norm_eps=self.eps, hidden_act='silu', tie_word_embeddings=True,
            attention_bias=False, mlp_bias=False, bos_token_id=bos, eos_token_id=end, pad_token_id=pad,
            initializer_range=0.02, use_cache=True, torch_dtype='bfloat16',
        )


class Norm(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden))
        self.eps = shape.eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        heads = lambda y: y.view(batch, length, -1, self.shape.head_dim).transpose(1, 2)  # noqa: E731
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


def rotate(x, cos, sin):
    """RoPE in the half-split form of Hugging Face: the first half is paired with the second."""
    first, second = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)


class MLP(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.input_layernorm = Norm(shape)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape)
        self.mlp = MLP(shape)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)


class Llama(nn.Module):
    """forward: ids [batch, length] -> logits [batch, length, vocab]; the output matrix is the embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # Projections that write to the residual stream start smaller, as in GPT-2.
                shrink = (2 * shape.layers) ** -0.5 if name.endswith(('o_proj.weight', 'down_proj.weight')) else 1.0
                nn.init.normal_(weight, std=0.02 * shrink if 'embed' in name else shape.hidden**-0.5 * 0.7 * shrink)
        angles = torch.arange(shape.context)[:, None] / shape.rope_theta ** (
            torch.arange(0, shape.head_dim, 2)[None] / shape.head_dim
        )
        self.register_buffer('cos', torch.cat((angles.cos(), angles.cos()), -1), persistent=False)
        self.register_buffer('sin', torch.cat((angles.sin(), angles.sin()), -1), persistent=False)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)
