package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// openDir makes dir if it is missing, keeps other processes out of it until the lock is closed, and
// leaves in it what kfake can read.
func openDir(dir string, log *slog.Logger) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		err = errors.New("another process is using it")
	}
	if err == nil {
		err = checkDir(dir, log)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// checkDir reads every segment and cuts a partition before the first batch that cannot be read.
// kfake would do worse. With a snapshot.json it cuts the segment there, but looks for what it
// appends where the snapshot says that the file ended: nobody can read that, ever. Without one it
// goes on with the next segment, and no reader is told of the hole. A topic that topics.json does
// not name it makes anew, and appends to the segments of the old one. So snapshots and indexes go,
// which say nothing that the segments do not, and what kfake knows of producers, whose ids are new.
func checkDir(dir string, log *slog.Logger) error {
	root := os.DirFS(dir)
	var list struct {
		Topics []struct {
			Name       string
			Partitions int
		}
	}
	topics, err := fs.ReadFile(root, "topics.json")
	if _, begun := fs.Stat(root, "meta.json"); err == nil && begun == nil { // else kfake looks at neither
		if err := json.Unmarshal(topics, &list); err != nil {
			return fmt.Errorf("topics.json: %w", err)
		}
	}
	named := make(map[string]bool)
	for _, t := range list.Topics {
		for p := range t.Partitions {
			named[fmt.Sprintf("partitions/%s-%d", url.PathEscape(t.Name), p)] = true
		}
	}
	for _, pattern := range []string{"partitions/*/snapshot.json", "partitions/*/*.idx", "pids.log", "seq_windows.json"} {
		files, _ := fs.Glob(root, pattern)
		for _, file := range files {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				return err
			}
		}
	}
	segments := make(map[string][]int64) // of a partition's folder: where they begin
	files, _ := fs.Glob(root, "partitions/*/*.dat")
	for _, file := range files {
		base, err := strconv.ParseInt(strings.TrimSuffix(path.Base(file), ".dat"), 10, 64)
		if err != nil {
			continue // not kfake's
		}
		if !named[path.Dir(file)] {
			return fmt.Errorf("%s has records, but topics.json and meta.json do not name its topic: "+
				"restore these two from a copy, or move the folder away", path.Dir(file))
		}
		segments[path.Dir(file)] = append(segments[path.Dir(file)], base)
	}
	for folder, bases := range segments {
		slices.Sort(bases)
		if err := checkPartition(filepath.Join(dir, folder), bases, log); err != nil {
			return err
		}
	}
	return nil
}

// checkPartition leaves of a partition's segments what can be read, and copies of the others.
func checkPartition(folder string, bases []int64, log *slog.Logger) error {
	next, damage := bases[0], error(nil)
	for _, base := range bases {
		file := filepath.Join(folder, fmt.Sprintf("%d.dat", base))
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		good := 0
		if damage == nil && base != next && len(b) > 0 {
			damage = fmt.Errorf("the segments from offset %d to %d are missing", next, base)
		}
		if damage == nil {
			good, next, damage = readable(b, next)
		}
		if good == len(b) {
			continue
		}
		saved := file + time.Now().Format(".damaged-20060102-150405")
		if err := errors.Join(os.WriteFile(saved, b, 0o600), os.Truncate(file, int64(good))); err != nil {
			return err
		}
		log.Warn("records cannot be read: their partition ends before them now",
			"file", file, "byte", good, "offset", next, "copy", saved, "err", damage)
	}
	return nil
}

// readable returns how many bytes at the beginning of a segment are whole batches without a hole,
// from offset next on, which offset follows, and why the next bytes are none.
func readable(b []byte, next int64) (good int, _ int64, _ error) {
	for good < len(b) {
		rest := b[good:]
		if len(rest) < headerLength || len(rest)-lengthEnd < int(binary.BigEndian.Uint32(rest[8:])) {
			return good, next, errors.New("a batch is cut short, or its length is wrong")
		}
		size := lengthEnd + int(binary.BigEndian.Uint32(rest[8:]))
		if size < headerLength || int64(binary.BigEndian.Uint64(rest)) != next || binary.BigEndian.Uint32(rest[12:]) != 0 ||
			binary.BigEndian.Uint32(rest[crcAt:]) != crc32.Checksum(rest[checksummed:size], crc32.MakeTable(crc32.Castagnoli)) {
			return good, next, errors.New("a batch has a wrong checksum, length, offset or epoch")
		}
		good += size
		next += int64(binary.BigEndian.Uint32(rest[headerLength-4:])) // the number of its records
	}
	return good, next, nil
}
