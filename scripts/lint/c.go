// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// lintC applies the rules for C.
func lintC(files cFiles) (found []string) {
	for _, f := range layered {
		found = append(found, f.check(files)...)
	}
	return append(found, limited.check(files)...)
}

// cFile is what the rules need to know of a C source or header.
type cFile struct {
	functions []*cFunction        // that are defined here
	macros    map[string][]cToken // what they stand for
	globals   []mention           // in initializers outside of functions
	tokens    []cToken
}

// cFunction is a function's definition.
type cFunction struct {
	name        string
	static      bool
	first, last int // lines of the braces
	mentions    []mention
}

// mention is a name that may be a function's, where it is used.
type mention struct {
	name   string
	line   int
	called bool // and not only used as a value
}

// cToken is an identifier, a number or a mark. Comments are left out, and of a string only
// the quotation mark is left.
type cToken struct {
	text string
	line int
}

var (
	// marks has an alternative for each kind of token: two kinds of comments, a directive, a
	// string, a character, a name or number, an arrow, and any other mark.
	marks = regexp.MustCompile(`(?sm)/\*.*?\*/|//[^\n]*|^[ \t]*#(?:\\\n|/\*.*?\*/|[^\n])*|` +
		`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\w+|->|\S`)
	define = regexp.MustCompile(`(?s)^\s*#\s*define\s+(\w+)(?:\([^)]*\))?(.*)`)
	name   = regexp.MustCompile(`^[A-Za-z_]\w*$`)
)

// tokenize leaves out directives, but keeps what macros stand for.
func (f *cFile) tokenize(source string) (tokens []cToken) {
	line, at := 1, 0
	for _, m := range marks.FindAllStringIndex(source, -1) {
		line += strings.Count(source[at:m[0]], "\n")
		at = m[0]
		switch text := source[m[0]:m[1]]; {
		case strings.HasPrefix(text, "/*"), strings.HasPrefix(text, "//"):
		case strings.HasPrefix(strings.TrimSpace(text), "#"):
			if d := define.FindStringSubmatch(text); d != nil {
				f.macros[d[1]] = f.tokenize(strings.ReplaceAll(d[2], "\\\n", " "))
			}
		case text[0] == '"' || text[0] == '\'':
			tokens = append(tokens, cToken{text[:1], line})
		default:
			tokens = append(tokens, cToken{text, line})
		}
	}
	return tokens
}

// parseC finds functions and what they mention. It is no compiler: both sides of an #if count.
func parseC(source string) *cFile {
	f := &cFile{macros: map[string][]cToken{}}
	f.tokens = f.tokenize(source)
	start := 0 // of the declaration that is read
	for i := 0; i < len(f.tokens); i++ {
		switch f.tokens[i].text {
		case ";":
			f.globals = append(f.globals, mentions(initializer(f.tokens[start:i]))...)
			start = i + 1
		case "{":
			end := closing(f.tokens, i)
			if end == len(f.tokens) {
				return f
			}
			if fn := declared(f.tokens[start:i]); fn != nil {
				fn.first, fn.last = f.tokens[i].line, f.tokens[end].line
				fn.mentions = mentions(f.tokens[i:end])
				f.functions = append(f.functions, fn)
				start = end + 1
			}
			i = end
		}
	}
	return f
}

// closing returns where the brace or parenthesis at i is closed, or the end.
func closing(tokens []cToken, i int) int {
	for depth := 0; i < len(tokens); i++ {
		switch tokens[i].text {
		case "(", "{", "[":
			depth++
		case ")", "}", "]":
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(tokens)
}

// declared returns the function whose head is given, if it is a function's.
func declared(head []cToken) *cFunction {
	fn := &cFunction{}
	for i, t := range head {
		switch {
		case t.text == "=":
			return nil
		case t.text == "static":
			fn.static = true
		case t.text == "(" && fn.name == "" && i > 0 && name.MatchString(head[i-1].text) && head[i-1].text != "__attribute__":
			fn.name = head[i-1].text
		}
	}
	if fn.name == "" {
		return nil
	}
	return fn
}

// initializer returns what follows the first equals sign of a declaration.
func initializer(declaration []cToken) []cToken {
	i := slices.IndexFunc(declaration, func(t cToken) bool { return t.text == "=" })
	if i < 0 {
		return nil
	}
	return declaration[i:]
}

// mentions returns the names in tokens, but for those of members, structs and their like.
func mentions(tokens []cToken) (found []mention) {
	for i, t := range tokens {
		if !name.MatchString(t.text) || i > 0 && slices.Contains([]string{".", "->", "struct", "union", "enum"}, tokens[i-1].text) {
			continue
		}
		called := i+1 < len(tokens) && tokens[i+1].text == "("
		found = append(found, mention{t.text, t.line, called})
	}
	return found
}

// members returns the names of the members of struct tag, and the line where the struct is
// defined, or 0. Members of a struct inside that has no name are its own, as for a compiler.
func (f *cFile) members(tag string) (line int, names []string) {
	for i := 2; i < len(f.tokens); i++ {
		if f.tokens[i].text == "{" && f.tokens[i-1].text == tag && f.tokens[i-2].text == "struct" {
			return f.tokens[i].line, membersIn(f.tokens[i+1 : closing(f.tokens, i)])
		}
	}
	return 0, nil
}

func membersIn(body []cToken) (names []string) {
	last, brace := "", -1 // the last name, and the opening brace of a struct inside
	for i := 0; i < len(body); i++ {
		switch t := body[i].text; {
		case t == "{":
			brace, last = i, ""
			i = closing(body, i)
		case t == "[":
			i = closing(body, i)
		case t == "(":
			// Of a member that points to a function the name is in the first parentheses.
			for i++; i < len(body) && body[i].text != ")"; i++ {
				last = body[i].text
			}
			if i+1 < len(body) && body[i+1].text == "(" {
				i = closing(body, i+1)
			}
		case t == "," || t == ";":
			if last == "" && brace >= 0 {
				names = append(names, membersIn(body[brace+1:closing(body, brace)])...)
			} else {
				names = append(names, last)
			}
			last = ""
			if t == ";" {
				brace = -1
			}
		case t == ":":
			i++ // the width of a bit-field
		case name.MatchString(t):
			last = t
		}
	}
	return names
}

// cFiles are the parsed C sources and headers of a tree, by their paths.
type cFiles map[string]*cFile

func (files cFiles) add(path string, source []byte) error {
	files[path] = parseC(string(source))
	return nil
}

// in returns the paths of the files of a folder with an extension, in order.
func (files cFiles) in(folder, extension string) (paths []string) {
	for p := range files {
		if path.Dir(p) == folder && path.Ext(p) == extension {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}
