import numpy as np
def _ap(s,t):
    o=np.argsort(-s,kind="stable"); tp=t[o]; n=tp.sum()
    if not n: return np.nan
    pr=np.cumsum(tp)/np.arange(1,len(tp)+1); return float((pr*tp).sum()/n)
def charades_map(s,t):
    s=np.where(t.any(1)[:,None],s,-np.inf); a=np.array([_ap(s[:,k],t[:,k]) for k in range(t.shape[1])]); return float(np.nanmean(a)),a
def per_time_map(s,t):
    s=s.reshape(-1,s.shape[-1]); t=t.reshape(s.shape); a=np.array([_ap(s[:,k],t[:,k]) for k in range(t.shape[1])]); return float(np.nanmean(a)),a
def max_and_mean_over_views(s): return s.max(1), s.mean(1)
