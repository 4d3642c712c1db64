"""Mutants that are as right as what they were made of: exercise -> {mutant: why}. `test_mutants` holds the list to what survives."""

ONE_AXIS = "what it is taken along has one axis, or one entry"
SQUARED = "the difference is squared"
SYMMETRIC = "the two may be swapped"
EITHER_WAY = "two axes are swapped either way round"
NUMBER = "a tensor without axes is a number: it computes the same, and its dtype changes no other"
ROUNDING = "it changes the last digits only, fewer than the exercise asks for"
UNREAD = "the entry that is too many is never read"
ELSEWHERE = "refused for others of the offered parameters; the lesson's give the right answer by chance"
EVEN = "it divides without a remainder"
GIVEN = "the noise is given, and comes back as it is"
NO_GRAPH = "an outcome holds values without their gradients"
LEADING = "further leading axes broadcast"
WIDE = "it is float64 already"
OWN = "it is changed in place, and is no argument of the answer"
NO_GRAPH_THERE = "inside no_grad there is no graph"
STRICT = "the lists that are zipped are equally long, or the longer one's rest is not needed"

EQUIVALENT = {
    "01.1": {
        "reference: without noise = noise_like(x_prev, generator) if noise is None else noise": GIVEN,
        "reference: noise = noise_like(generator, x_prev) if noise is None else noise": GIVEN,
        "reference: noise = noise": GIVEN,
    },
    "01.2": {
        "solution: for beta in betas:": NUMBER,
    },
    "01.3": {
        "reference: for beta in betas:": NUMBER,
    },
    "01.4": {
        "reference: while left > share:": "the share is never met exactly",
    },
    "01.5": {
        "reference: return (noisy.weights, noisy.means[:, -1], noisy.covariances[:, 0, 0])": ONE_AXIS,
        "reference: return (noisy.weights, noisy.means[:, 0], noisy.covariances[:, -1, 0])": ONE_AXIS,
        "reference: return (noisy.weights, noisy.means[:, 0], noisy.covariances[:, 0, -1])": ONE_AXIS,
        "solution: alpha_bar = (1 - betas).prod()": NUMBER,
    },
    "02.1": {
        "reference: without noise = noise_like(x0, generator) if noise is None else noise": GIVEN,
        "reference: noise = noise_like(generator, x0) if noise is None else noise": GIVEN,
        "reference: noise = noise": GIVEN,
    },
    "02.2": {
        "reference: return (1 - betas).cumprod(-1)": ONE_AXIS,
        "reference: return (1 - betas).cumprod(0).to(torch.float64)": WIDE,
    },
    "02.4": {
        "reference: return (1 - f[1:] / f[:-1]).clamp(max=max_beta).to(torch.float64)": WIDE,
        "solution: return (1 - f[1:] / f[:-1]).clamp(max=max_beta).to(torch.float64)": WIDE,
    },
    "02.5": {
        "reference: return make_schedule('linear', num_steps).alphas_cumprod[-1].sqrt()": NUMBER,
        "solution: betas = torch.linspace(0.02, 0.0001, num_steps, dtype=torch.float64)": "a product has no order",
        "solution: betas = torch.linspace(0.0001, 0.02, num_steps)": ROUNDING,
        "solution: betas = torch.linspace(0.0002, 0.02, num_steps, dtype=torch.float64)": ROUNDING,
        "solution: betas = torch.linspace(0.0001, 0.02, num_steps, dtype=torch.float32)": ROUNDING,
        "solution: return (1 - betas).prod().sqrt()": NUMBER,
        "solution: return (betas - 1).prod().sqrt().item()": ELSEWHERE,
    },
    "02.6": {
        "reference: signal = (1 - betas).cumprod(0).sqrt()": ROUNDING,
        "reference: signal = (1 - betas.to(torch.float64)).cumprod(-1).sqrt()": ONE_AXIS,
        "reference: signal = (signal[-1] - signal) * signal[0] / (signal[0] - signal[-1])": "the sign changes, and the square follows",
        "reference: signal = (signal - signal[-1]) * signal[0] / (signal[-1] - signal[0])": "the sign changes, and the square follows",
        "solution: roots = (1 - betas).cumprod(-1).sqrt()": ONE_AXIS,
        "solution: roots = (roots[-1] - roots) * roots[0] / (roots[0] - roots[-1])": "the sign changes, and the square follows",
        "solution: roots = (roots - roots[-1]) * roots[0] / (roots[-1] - roots[0])": "the sign changes, and the square follows",
        "reference: return (1 - alphas).to(torch.float64)": WIDE,
        "solution: return (1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])).to(torch.float64)": WIDE,
    },
    "03.1": {
        "reference: return noise_pred / -1 / (1 - alpha_bar).sqrt()": "both are the other sign",
    },
    "03.2": {
        "solution: before = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod])": UNREAD,
        "solution: before = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:]])": UNREAD,
        "reference: return loss_weight(t, alphas_cumprod, weighting='elbo', variance_type='fixed_large').to(torch.float64)": WIDE,
        "solution: return ((1 - alpha) / (2 * alpha * (1 - alpha_bar))).to(torch.float64)": WIDE,
    },
    "03.3": {
        "solution: x0 = torch.tensor([1.0, -1.0])": ROUNDING,
        "solution: x0 = torch.tensor([1.0, -1.0], dtype=torch.float32)": ROUNDING,
        "solution: noise = (x_t + alpha_bar ** 0.5 * x0) / (1 - alpha_bar) ** 0.5": "the two x_0 are 1 and -1: they change places, or stay",
        "solution: noise = (x_t - alpha_bar ** 0.5 / x0) / (1 - alpha_bar) ** 0.5": "the two x_0 are 1 and -1: they change places, or stay",
        "solution: share = (-noise ** 2 / 2).softmax(-1)": ONE_AXIS,
        "solution: return (share * noise).sum()": NUMBER,
    },
    "03.6": {
        "solution: alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1])": "the exercise is about points (B, 2)",
        "solution: alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * 1)": "the exercise is about points (B, 2)",
        "solution: loss = ((noise - model(xt, t)) ** 2).mean()": SQUARED,
        "solution: xt = alpha_bar.sqrt().detach() * x0 + (1 - alpha_bar).sqrt() * noise": "the table of levels wants no gradients",
        "solution: xt = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt().detach() * noise": "the table of levels wants no gradients",
    },
    "04.2": {
        "solution: previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod])": UNREAD,
        "solution: previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:]])": UNREAD,
    },
    "04.3": {
        "reference: alpha_bar = (1 - linear_betas(num_train_timesteps)).cumprod(-1)": ONE_AXIS,
        "reference: return (ratio >= share).nonzero()[0]": NUMBER,
        "reference: return int((ratio > share).nonzero()[0])": "the share is never met exactly",
        "solution: betas = torch.linspace(0.0001, 0.02, num_train_timesteps)": ROUNDING,
        "solution: betas = torch.linspace(0.0001, 0.02, num_train_timesteps, dtype=torch.float32)": ROUNDING,
        "solution: alpha_bar = (1 - betas).cumprod(-1)": ONE_AXIS,
        "solution: return (ratio >= share).nonzero()[0]": NUMBER,
        "solution: return int((ratio > share).nonzero()[0])": "the share is never met exactly",
    },
    "04.4": {
        "reference: alpha_bar = (1 - betas).cumprod(-1)[t].reshape(shape)": ONE_AXIS,
    },
    "04.5": {
        "reference: alpha_bar = (1 - betas).cumprod(-1)": ONE_AXIS,
        "reference: alpha_bar = (1 - betas).cumprod(-1)[t].reshape(shape)": ONE_AXIS,
        "solution: alphas_cumprod = (1 - betas).cumprod(-1)": ONE_AXIS,
        "solution: previous = torch.cat([betas.new_ones(1), alphas_cumprod])": UNREAD,
        "solution: previous = torch.cat([betas.new_ones(1), alphas_cumprod[:]])": UNREAD,
    },
    "04.6": {
        "reference: alpha_bar = (1 - betas).cumprod(-1)[t].reshape(shape)": ONE_AXIS,
        "reference: scale = 1 / (1 - beta).sqrt()": "betas and samples have one dtype here",
        "reference: share = beta / (1 - alpha_bar).sqrt()": "betas and samples have one dtype here",
        "solution: alphas_cumprod = (1 - betas).cumprod(-1)": ONE_AXIS,
        "reference: return scale * xt.sub_(share * noise_pred)": OWN,
        "reference: return scale * (xt - noise_pred.mul_(share))": OWN,
    },
    "05.1": {
        "solution: half = dim / 2": EVEN,
        "reference: return timestep_embedding(t, dim).to(torch.float32)": "float32 is asked for",
        "solution: return torch.cat([angles.cos(), angles.sin()], 1).to(torch.float32)": "float32 is asked for",
    },
    "05.3": {
        "reference: side = (size + 2 / 1 - 3) // 2 + 1": "the same number",
        "reference: side = (size + 2 - 3) // 2 + 1": "the same number",
        "reference: side = (size + 1 - 3) // 2 + 1": ELSEWHERE,
        "reference: side = (size + 1 * 1 - 3) // 2 + 1": ELSEWHERE,
        "reference: side = (size + 2 * 1 - 4) // 2 + 1": ELSEWHERE,
    },
    "05.4": {
        "solution: y = x.reshape(num_groups, len(x), -1)": "the rows are the same, and only rows are used",
        "solution: variance = (mean - y).square().mean(2, keepdim=True)": SQUARED,
    },
    "05.5": {
        "reference: d = min((1 + n) / (10 + n), decay)": SYMMETRIC,
    },
    "05.6": {
        "reference: q, k, v = (z.unflatten(-1, (num_heads, -1)).transpose(2, 1) for z in F.linear(x, w_qkv).chunk(3, -1))": EITHER_WAY,
        "reference: return x + F.linear(F.scaled_dot_product_attention(q, k, v).transpose(2, 1).flatten(2), w_out)": EITHER_WAY,
        "solution: q, k, v = (z.reshape(split).transpose(2, 1) for z in (q, k, v))": EITHER_WAY,
        "solution: return x + h.transpose(2, 1).reshape(batch, length, channels) @ w_out.T": EITHER_WAY,
    },
    "05.7": {
        "reference: error = batch['noise'] - model(batch['xt'], batch['t'])": SQUARED,
        "solution: error = batch['noise'] - model(batch['xt'], batch['t'])": SQUARED,
        "solution: errors.append(error)": "all batches have the same axes after the first",
        "reference: return (total / count).to(torch.float32)": "a float32 loss counts as the number in it",
        "reference: return (total / count).detach()": NO_GRAPH_THERE,
        "reference: total, count = (total + (error ** 2).sum().detach(), count + error.numel())": NO_GRAPH_THERE,
        "solution: return torch.cat(errors).square().mean().to(torch.float32)": "a float32 loss counts as the number in it",
        "solution: return torch.cat(errors).square().mean().detach()": NO_GRAPH_THERE,
        "solution: return torch.cat(errors).square().detach().mean()": NO_GRAPH_THERE,
    },
    "06.2": {
        "reference: return (1 - alpha_bar / torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])).to(torch.float64)": WIDE,
    },
    "06.3": {
        "reference: return euler.to(torch.float64)": WIDE,
    },
    "06.4": {
        "reference: times = inference_timesteps(len(alphas_cumprod), n, 'trailing')": NUMBER,
        "reference: return _walk(model, xt, times, [*alphas_cumprod[times], 1.0])": NUMBER,
        "reference: for t, (now, then) in zip(times, pairwise(levels)):": STRICT,
        "reference: for t, (now, then) in zip(times, pairwise(levels), strict=False):": STRICT,
        "solution: levels = [*alphas_cumprod[times], 1.0]": NUMBER,
        "solution: for t, now, then in zip(times, levels, levels[1:]):": STRICT,
        "solution: for t, now, then in zip(times, levels[:], levels[1:]):": STRICT,
        "reference: return alpha_bar_prev ** 0.5 * x0_pred + noise_pred.mul_((1 - alpha_bar_prev) ** 0.5)": OWN,
    },
    "06.6": {
        "reference: times = timesteps": NUMBER,
        "reference: return _walk(model, xt, times[:-1], alphas_cumprod[timesteps])": NUMBER,
        "reference: for t, (now, then) in zip(times, pairwise(levels)):": STRICT,
        "reference: for t, (now, then) in zip(times, pairwise(levels), strict=False):": STRICT,
        "solution: times = timesteps": NUMBER,
        "solution: for t, then in zip(times, times[1:]):": STRICT,
        "solution: for t, then in zip(times[:], times[1:]):": STRICT,
        "solution: now, after = (alphas_cumprod[t], alphas_cumprod[then].item())": NUMBER,
        "solution: now, after = (alphas_cumprod[t].item(), alphas_cumprod[then])": NUMBER,
        "reference: return alpha_bar_prev ** 0.5 * x0_pred + noise_pred.mul_((1 - alpha_bar_prev) ** 0.5)": OWN,
    },
    "07.1": {
        "reference: return ((mean_b - mean_a) ** 2).sum() + ((var_a.sqrt() - var_b.sqrt()) ** 2).sum()": SQUARED,
        "reference: return ((mean_a - mean_b) ** 2).sum() + ((var_b.sqrt() - var_a.sqrt()) ** 2).sum()": SQUARED,
    },
    "07.2": {
        "reference: return torch.tensor(frechet_distance(features_b, features_a), dtype=features_a.dtype)": SYMMETRIC,
        "solution: gap = ((features_b.mean(0) - features_a.mean(0)) ** 2).sum()": SQUARED,
        "solution: roots = torch.linalg.eigvals(cov_b @ cov_a).real.clamp(min=0).sqrt()": SYMMETRIC,
        "reference: return torch.tensor(frechet_distance(features_a, features_b), dtype=features_a.dtype).to(torch.float64)": WIDE,
        "solution: return (gap + cov_a.trace() + cov_b.trace() - 2 * roots.sum()).to(torch.float64)": WIDE,
    },
    "07.4": {
        "reference: return over_pairs(x) + over_pairs(y) - 2 * kernel(y, x).mean()": SYMMETRIC,
        "reference: return (over_pairs(x) + over_pairs(y) - 2 * kernel(x, y).mean()).to(torch.float64)": WIDE,
        "reference: return ((a @ b.T / a.shape[1] + 1) ** 3).to(torch.float64)": WIDE,
        "reference: return ((table.sum() - table.diagonal().sum()) / (len(a) * (len(a) - 1))).to(torch.float32)": "the tables are float64, and the sum that follows is",
        "reference: return ((table.sum() - table.diagonal().sum()) / (len(a) * (len(a) - 1))).to(torch.float64)": WIDE,
    },
    "07.5": {
        "reference: radius = torch.cdist(centres, centres).kthvalue(k + 1).values": "distances among the centres are symmetric",
        "reference: radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=0).values": "distances among the centres are symmetric",
    },
    "07.6": {
        "reference: total = torch.zeros(len(x))": "it is zero, and a sum has the wider dtype",
        "reference: total = total + (row / z).flatten(1).sum(1)": "the probes are 1 and -1",
        "reference: return total / len(probes)": NO_GRAPH,
    },
    "09.1": {
        "reference: return (mean + (0.5 * log_variance).exp() * noise).requires_grad_()": "it has a graph already",
    },
    "09.2": {
        "reference: zero = torch.zeros(())": NUMBER,
    },
    "09.3": {
        "reference: return max(0.5 * math.log2(2 * variance / weight), 0.0)": SYMMETRIC,
        "reference: return 0.5 * math.log2(2 * variance / weight)": "every variance that is offered is worth some bits",
        "reference: return max(-1.0, 0.5 * math.log2(2 * variance / weight))": "every variance that is offered is worth some bits",
        "solution: return max(0.5 * math.log2(2 * variance / weight), 0.0)": SYMMETRIC,
        "solution: return 0.5 * math.log2(2 * variance / weight)": "every variance that is offered is worth some bits",
        "solution: return max(-1.0, 0.5 * math.log2(2 * variance / weight))": "every variance that is offered is worth some bits",
    },
    "09.4": {
        "reference: return psnr(references, images)": SYMMETRIC,
        "solution: error = ((references - images) ** 2).flatten(1).mean(1)": SQUARED,
    },
    "09.6": {
        "reference: return (share * (variance + (overall - mean) ** 2)).sum() ** (-0.5)": SQUARED,
        "reference: return ((share * (variance + (mean - overall) ** 2)).sum() ** (-0.5)).to(torch.float64)": WIDE,
        "solution: return ((square - overall ** 2) ** (-0.5)).to(torch.float64)": WIDE,
    },
    "10.2": {
        "reference: found = [(rank[pair], pair) for pair in zip(ids, ids[1:]) if pair in rank]": "only pairs are looked at, and the shorter list has them all",
        "solution: pairs = zip(ids[:-1], ids[1:])": "only pairs are looked at, and both lists are equally long",
        "solution: pairs = zip(ids[:-1], ids[1:], strict=False)": "only pairs are looked at, and both lists are equally long",
    },
    "10.3": {
        "reference: return torch.full(scores.shape, -torch.inf, dtype=scores.dtype).triu(1)": LEADING,
        "reference: return torch.full(scores.shape[:], -torch.inf, dtype=scores.dtype).triu(1)": LEADING,
        "reference: return torch.full(scores.shape[2:], -torch.inf, dtype=scores.dtype).triu(1)": LEADING,
        "reference: return torch.full(scores.shape[-3:], -torch.inf, dtype=scores.dtype).triu(1)": LEADING,
        "reference: return torch.full(scores.shape[-4:], -torch.inf, dtype=scores.dtype).triu(1)": LEADING,
        "solution: later = torch.ones(scores.shape, dtype=torch.bool).triu(1)": LEADING,
        "solution: later = torch.ones(scores.shape[:], dtype=torch.bool).triu(1)": LEADING,
        "solution: later = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)": LEADING,
        "solution: later = torch.ones(scores.shape[-3:], dtype=torch.bool).triu(1)": LEADING,
        "solution: later = torch.ones(scores.shape[-4:], dtype=torch.bool).triu(1)": LEADING,
    },
    "10.4": {
        "reference: return attention_probabilities(queries[:, None], keys[:, None])[:, -1] @ values": ONE_AXIS,
        "solution: scores = queries @ keys.transpose(-2, -1)": EITHER_WAY,
    },
    "10.5": {
        "reference: return (attention_probabilities(queries, keys) @ values).transpose(2, 1).flatten(2)": EITHER_WAY,
        "solution: return x.unflatten(-1, (heads, -1)).transpose(2, 1)": EITHER_WAY,
        "solution: shares = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)": EITHER_WAY,
        "solution: shares = (q @ k.transpose(-1, 2) / q.shape[-1] ** 0.5).softmax(-1)": "keys have four axes",
        "solution: return (shares @ v).transpose(2, 1).flatten(2)": EITHER_WAY,
    },
    "11.3": {
        "solution: taken = int(round(len(times) * strength, 10))": "every other number of places rounds as well",
        "solution: taken = int(round(len(times) * strength, 8))": "every other number of places rounds as well",
        "solution: taken = int(round(len(times) * strength, 18))": "every other number of places rounds as well",
    },
    "11.5": {
        "reference: return slerp(a[None], b[None], weight)[-1]": ONE_AXIS,
    },
    "11.6": {
        "reference: return faithful(read, asked).all(1).double().mean().to(torch.float64)": WIDE,
        "solution: return right.all(1).double().mean().to(torch.float64)": WIDE,
    },
    "12.1": {
        "reference: positions = (pixels / 8) ** 2": EVEN,
        "reference: return scores * 2 / 1000000001.0": ROUNDING,
        "reference: return scores * 2 / 999999999.0": ROUNDING,
    },
    "12.3": {
        "reference: return x.float().flatten(1).square().mean(1).sqrt().to(torch.float32)": "float32 is asked for",
    },
    "12.4": {
        "solution: scores = query[part] @ key[part].transpose(2, 1) / query.shape[-1] ** 0.5": EITHER_WAY,
    },
    "12.6": {
        "reference: return torch.stack([(target - output).square().mean() for target in targets])": SQUARED,
        "solution: return torch.stack([(noise - output).square().mean(), (output - v).square().mean()])": SQUARED,
        "solution: return torch.stack([(output - noise).square().mean(), (v - output).square().mean()])": SQUARED,
    },
    "14.3": {
        "reference: for now, then in zip(times[:-1], times[1:], strict=False):": STRICT,
        "reference: for now, then in zip(times[:-1], times[1:]):": STRICT,
        "solution: for now, then in zip(times, times[1:]):": STRICT,
        "solution: for now, then in zip(times[:], times[1:]):": STRICT,
    },
    "14.4": {
        "reference: return (t - 1) ** 2 / ((1 - t) ** 2 + t ** 2)": SQUARED,
        "reference: return (1 - t) ** 2 / ((t - 1) ** 2 + t ** 2)": SQUARED,
    },
}
