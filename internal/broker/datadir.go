package broker

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"kafkachat/internal/wire"
)

// openDir makes dir if it is missing, locks it against other processes until the lock is closed,
// and leaves only files that kfake can read. It returns the folders of partitions, each with the
// offsets where its segments begin.
//
// kfake itself repairs badly. With a snapshot.json, kfake cuts a segment before the damage, but
// looks for new records where the snapshot says that the file ended: no client can ever read them.
// Without a snapshot, kfake goes on with the next segment, and no reader learns of the hole. So
// openDir deletes snapshots and indexes, which only repeat the segments. It also deletes the state
// of producers, whose ids are new.
func (b *Broker) openDir(dir string) (segments map[string][]int64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b.lock = flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	if locked, err := b.lock.TryLock(); err != nil || !locked {
		return nil, cmp.Or(err, errors.New("another process is using it: stop that process, set another DATA_DIR, or join its chat with KAFKA_BROKER"))
	}
	root := os.DirFS(dir) // brackets in the name of dir are not a pattern
	for _, pattern := range []string{"partitions/*/snapshot.json", "partitions/*/*.idx", "pids.log", "seq_windows.json"} {
		files, _ := fs.Glob(root, pattern)
		for _, file := range files {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				return nil, err
			}
		}
	}
	segments = make(map[string][]int64)
	files, _ := fs.Glob(root, "partitions/*/*.dat")
	for _, file := range files {
		if base, err := strconv.ParseInt(strings.TrimSuffix(path.Base(file), ".dat"), 10, 64); err == nil {
			segments[path.Dir(file)] = append(segments[path.Dir(file)], base)
		}
	}
	for folder, bases := range segments {
		slices.Sort(bases)
		if err := b.checkPartition(filepath.Join(dir, folder), bases); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

// checkPartition cuts a partition's segments at the first damage, and keeps copies of those it
// cuts.
func (b *Broker) checkPartition(folder string, bases []int64) error {
	next, damage := bases[0], error(nil)
	for _, base := range bases {
		file := filepath.Join(folder, fmt.Sprintf("%d.dat", base))
		segment, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if damage == nil && base != next && len(segment) > 0 {
			damage = fmt.Errorf("the segments from offset %d to %d are missing", next, base)
		}
		good := 0
		for damage == nil && good < len(segment) {
			batch, size, err := wire.ReadBatch(segment[good:])
			switch {
			case err != nil:
				damage = err
			case batch.FirstOffset != next || batch.PartitionLeaderEpoch != 0:
				damage = errors.New("a batch has a wrong offset or epoch")
			default:
				good += size
				next += int64(batch.NumRecords)
			}
		}
		if good == len(segment) {
			continue
		}
		saved := file + time.Now().Format(".damaged-20060102-150405")
		if err := errors.Join(os.WriteFile(saved, segment, 0o600), os.Truncate(file, int64(good))); err != nil {
			return err
		}
		b.cfg.Log.Warn("a file of DATA_DIR is damaged: the records of its partition from offset on are dropped, and copy has the whole file",
			"file", file, "byte", good, "offset", next, "copy", saved, "err", damage)
	}
	return nil
}
