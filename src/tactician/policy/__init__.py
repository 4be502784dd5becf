"""stub"""
import torch
from torch import nn
class ActorCritic(nn.Module):
    def __init__(s, obs_dim, n_actions, hidden_dim=256, n_gru_layers=2, dropout=0.1, value_scale=1.0, generator=None):
        super().__init__()
        H=hidden_dim
        s.architecture=dict(obs_dim=obs_dim,n_actions=n_actions,hidden_dim=H,n_gru_layers=n_gru_layers,dropout=dropout)
        s.hidden_dim,s.n_gru_layers,s.dropout=H,n_gru_layers,dropout
        s.register_buffer("value_scale",torch.tensor(float(value_scale)))
        s.encoder=nn.Sequential(nn.Linear(obs_dim,H),nn.ReLU(),nn.LayerNorm(H),nn.Linear(H,H),nn.ReLU(),nn.LayerNorm(H))
        s.gru=nn.ModuleList(nn.GRU(H,H) for _ in range(n_gru_layers))
        def head(o): return nn.Sequential(nn.Linear(H,128),nn.ReLU(),nn.LayerNorm(128),nn.Linear(128,o))
        s.policy_head=head(n_actions); s.value_head=head(1)
        for m in s.modules():
            if isinstance(m,nn.Linear): nn.init.orthogonal_(m.weight,2**.5,generator=generator); nn.init.zeros_(m.bias)
        nn.init.orthogonal_(s.policy_head[-1].weight,.01,generator=generator)
        nn.init.orthogonal_(s.value_head[-1].weight,.1,generator=generator)
    def actor_parameters(s): return [*s.encoder.parameters(),*s.gru.parameters(),*s.policy_head.parameters()]
    def critic_parameters(s): return list(s.value_head.parameters())
    def initial_state(s,n): return torch.zeros(s.n_gru_layers,n,s.hidden_dim)
    def trunk(s,obs,hidden,masks=None):
        x=s.encoder(obs); hs=[]
        for i,g in enumerate(s.gru):
            if masks is not None: x=x*masks[i]
            x,h=g(x,hidden[i:i+1].contiguous()); hs.append(h)
        return x,torch.cat(hs)
    def values(s,f): return s.value_scale*s.value_head(f)[...,0]
    def action_logits(s,f): return s.policy_head(f)
    def forward(s,obs,hidden,masks=None):
        f,h=s.trunk(obs,hidden,masks); return s.action_logits(f),s.values(f),h
