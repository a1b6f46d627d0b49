package cluster

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// libraryDirs are where Debian's dynamic linker finds libraries.
func libraryDirs() []string {
	return []string{
		"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
		"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
		"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib",
	}
}

// Program adds a program of this machine, looked up like a shell does, under
// /usr/bin with the shared libraries and the dynamic linker that it names.
func (t *FileTree) Program(name string) error {
	return t.ProgramAt(filepath.Join("usr/bin", filepath.Base(name)), name)
}

// ProgramAt is Program for one that is to be at a certain path.
func (t *FileTree) ProgramAt(path, name string) error {
	found, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w; make lab-packages installs what the lab needs", err)
	}
	real, err := filepath.EvalSymlinks(found)
	if err != nil {
		return err
	}
	t.File(path, real, 0o755)
	return t.libraries(real)
}

// libraries adds what a program or library needs to start, recursively. A file
// that is not ELF (a script) needs nothing.
func (t *FileTree) libraries(file string) error {
	binary, err := elf.Open(file)
	if err != nil {
		if format := (*elf.FormatError)(nil); errors.As(err, &format) {
			return nil
		}
		return err
	}
	defer binary.Close()
	if linker := interpreter(binary); linker != "" && !t.Has(linker) {
		if err := t.copyLibrary(linker, linker); err != nil {
			return err
		}
	}
	needed, err := binary.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, library := range needed {
		if err := t.library(file, library); err != nil {
			return err
		}
	}
	return nil
}

func (t *FileTree) library(user, name string) error {
	for _, dir := range append([]string{filepath.Dir(user)}, libraryDirs()...) {
		candidate := filepath.Join(dir, name)
		if _, err := os.Stat(candidate); err != nil {
			continue
		}
		if t.Has(candidate) {
			return nil
		}
		return t.copyLibrary(candidate, candidate)
	}
	return fmt.Errorf("%s needs the library %s, which is in none of %v", user, name, libraryDirs())
}

func (t *FileTree) copyLibrary(name, source string) error {
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return err
	}
	t.File(name, real, 0o755)
	return t.libraries(real)
}

// interpreter is the dynamic linker's path, empty for a static program.
func interpreter(binary *elf.File) string {
	for _, segment := range binary.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		data := make([]byte, segment.Filesz)
		if _, err := segment.ReadAt(data, 0); err != nil {
			return ""
		}
		return strings.TrimRight(string(data), "\x00")
	}
	return ""
}
