package proto

import (
	"context"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "github.com/assay-bench/assay/fixtures/idl/behavepb" // known without reflection
)

// maxFiles bounds the descriptors that a server may send.
const maxFiles = 256

// encoded replaces a JSON body by its protobuf encoding, row by row. The descriptor is this program's own
// or the server's, by reflection.
func encoded(ctx context.Context, c Config) (Config, error) {
	if !c.JSON {
		return c, nil
	}
	if err := c.probe(ctx); err != nil {
		return c, err
	}
	input, err := inputOf(ctx, c)
	if err != nil {
		return c, err
	}
	out := &Rows{names: []string{encodedColumn}}
	if c.Rows != nil {
		out.names = append(out.names, c.Rows.names...)
	}
	for i := range c.requests() {
		text, err := c.Rows.render(string(c.Body), i, verbatim)
		if err != nil {
			return c, err
		}
		m := dynamicpb.NewMessage(input)
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			return c, refuse("body of request %d as %s: %v", i, input.FullName(), err)
		}
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return c, refuse("body of request %d: %v", i, err)
		}
		row := []string{string(raw)}
		if c.Rows != nil {
			row = append(row, c.Rows.rows[i]...)
		}
		out.rows = append(out.rows, row)
	}
	c.Rows, c.Body, c.JSON = out, []byte("{{"+encodedColumn+"}}"), false
	return c, nil
}

// encodedColumn is a name that no data file can have in a placeholder.
const encodedColumn = "\x00encoded"

// inputOf finds the request type of the method in the URL's path.
func inputOf(ctx context.Context, c Config) (protoreflect.MessageDescriptor, error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(c.URL.Path, "/"), "/")
	files := protoregistry.GlobalFiles
	d, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		if files, err = reflected(ctx, c, service); err != nil {
			return nil, fmt.Errorf("%w: no descriptor of %.100q for a JSON body: %w; give the encoded message with --body-file", ErrConfig, service, err)
		}
		if d, err = files.FindDescriptorByName(protoreflect.FullName(service)); err != nil {
			return nil, refuse("the server's reflection does not know %.100q", service)
		}
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, refuse("%.100q is no service", service)
	}
	m := s.Methods().ByName(protoreflect.Name(method))
	if m == nil || m.IsStreamingClient() || m.IsStreamingServer() {
		return nil, refuse("%.100q has no unary method %.40q", service, method)
	}
	return m.Input(), nil
}

// reflected asks the server for the file of a service and for all that it imports.
func reflected(ctx context.Context, c Config, service string) (*protoregistry.Files, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	creds := insecure.NewCredentials()
	if strings.HasSuffix(c.URL.Scheme, "+tls") {
		creds = credentials.NewTLS(c.tlsConfig("h2"))
	}
	conn, err := grpc.NewClient("passthrough:///"+c.URL.Host, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return c.Dial(ctx, "tcp", addr) }))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // fails only when closed
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	r := &descriptors{stream: stream, set: &descriptorpb.FileDescriptorSet{}, have: map[string]bool{}}
	if err := r.ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	}); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(r.set)
}

type descriptors struct {
	stream grpc.BidiStreamingClient[reflectionpb.ServerReflectionRequest, reflectionpb.ServerReflectionResponse]
	set    *descriptorpb.FileDescriptorSet
	have   map[string]bool
}

// ask adds the files of one answer, then those that they import.
func (r *descriptors) ask(request *reflectionpb.ServerReflectionRequest) error {
	if err := r.stream.Send(request); err != nil {
		return err
	}
	answer, err := r.stream.Recv()
	if err != nil {
		return err
	}
	if e := answer.GetErrorResponse(); e != nil {
		return fmt.Errorf("reflection: %.200s", e.GetErrorMessage())
	}
	var imports []string
	for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(raw, f); err != nil {
			return err
		}
		if r.have[f.GetName()] {
			continue
		}
		if len(r.have) == maxFiles {
			return fmt.Errorf("reflection: more than %d files", maxFiles)
		}
		r.have[f.GetName()] = true
		r.set.File = append(r.set.File, f)
		imports = append(imports, f.GetDependency()...)
	}
	for _, name := range imports {
		if r.have[name] {
			continue
		}
		if err := r.ask(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: name},
		}); err != nil {
			return err
		}
		if !r.have[name] {
			return fmt.Errorf("reflection: the server does not send %.100q", name)
		}
	}
	return nil
}
