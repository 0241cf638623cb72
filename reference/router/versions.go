package router

import (
	"slices"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/table"
)

// Versions lists the kept versions, oldest first.
func (r *Router) Versions() VersionList {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := VersionList{Versions: []VersionSummary{}, Live: r.live.Load().version.ID}
	for _, v := range r.versions {
		list.Versions = append(list.Versions, VersionSummary{v.ID, v.Parent, v.Digest, v.Cause, v.At, v.Rows, v.Model.info.Digest})
	}
	return list
}

func (r *Router) version(id int64) (*Version, error) {
	for _, v := range r.versions {
		if v.ID == id {
			return v, nil
		}
	}
	return nil, refuse(Unknown, "", "no version %d: it never was, or was forgotten", id)
}

// Version returns a version with all its rows.
func (r *Router) Version(id int64) (VersionRows, error) {
	r.mu.Lock()
	v, err := r.version(id)
	r.mu.Unlock()
	if err != nil {
		return VersionRows{}, err
	}
	rows := VersionRows{Version: v.ID, Digest: v.Digest, Threshold: v.Threshold, Rows: make([]Row, 0, v.Rows)}
	for _, p := range v.Policies {
		for i, row := range p.Rows {
			rows.Rows = append(rows.Rows, Row{table.RowID(p.ID, i), p.ID, p.Weight, row.Live})
		}
	}
	return rows, nil
}

// Rollback makes a kept version live again, under its own id. A rollout ends.
func (r *Router) Rollback(id int64) (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := r.version(id)
	if err != nil {
		return State{}, err
	}
	l := r.live.Load()
	policies := v.Policies
	if r.service.cfg.Defects.On(defect.RouterRollbackPartial) {
		policies = l.version.Policies
	}
	used := l.stable.engine
	a, err := r.newArm(v.Model, used, l.settings, slices.Clone(policies), v.Threshold)
	if err != nil {
		return State{}, err
	}
	r.endTrial(l, rolledBack, "asked")
	r.record(LogEvent{Kind: "rollback", Applied: true, Reason: "asked", VersionBefore: l.version.ID, Version: v.ID})
	r.swap(&live{settings: l.settings, version: v, stable: a})
	r.resetGuard(a)
	return r.State(), nil
}
