package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
)

// openJournal creates the undo log of a run and the watchdog that replays it when this process dies.
func openJournal(dir string) (*chaos.Journal, func() error, error) {
	path := filepath.Join(dir, results.JournalFile)
	j, err := chaos.CreateJournal(path)
	if err != nil {
		return nil, nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, errors.Join(err, j.Close())
	}
	w, err := chaos.StartWatchdog(exe, []string{"watchdog", "--journal", path}, path)
	if err != nil {
		return nil, nil, errors.Join(err, j.Close())
	}
	return j, func() error { return errors.Join(j.Close(), w.Close()) }, nil
}

func (a *app) watchdogCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "watchdog", Hidden: true, Args: none,
		Short: "undo the faults of a run whose process died (started by assay itself)",
		RunE:  func(*cobra.Command, []string) error { return chaos.Watch(a.in, path) },
	}
	cmd.Flags().StringVar(&path, "journal", "", "journal to replay")
	return cmd
}

func (a *app) chaosCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "chaos", Short: "faults: undo what a dead run left", GroupID: "target", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(&cobra.Command{
		Use:   "clean DIR",
		Short: "replay a run's journal: undo its faults and end its processes",
		Args:  exactly(1, "the folder of a run"),
		RunE: func(_ *cobra.Command, args []string) error {
			path := filepath.Join(args[0], results.JournalFile)
			if _, err := os.Stat(path); err != nil {
				return usagef("no journal to replay: %w", err)
			}
			if err := chaos.Replay(path); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s is clean\n", path)
			return nil
		},
	})
	return cmd
}
